from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import annlib
from annlib.errors import ConfigError


@pytest.mark.parametrize(
    ("layer", "optimizer", "message"),
    [
        (
            lambda: layers.SpectralNormalization(layers.Dense(3)),
            keras.optimizers.SGD,
            "a layer assigns its weight .*/kernel while it is called",
        ),
        (
            lambda: layers.Dense(3),
            lambda: keras.optimizers.SGD(use_ema=True, ema_overwrite_frequency=2),
            "the optimizer has an ema_overwrite_frequency: expected None",
        ),
    ],
)
def test_what_replicas_cannot_do_is_one_line(
    layer: Callable[[], layers.Layer], optimizer: Callable[[], keras.optimizers.Optimizer], message: str
) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras.Sequential([keras.Input((2,)), layer(), layers.Dense(1)])
        model.compile(optimizer(), loss="mse")
    with pytest.raises(ConfigError, match=message):
        annlib.fit(model, np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), verbose=0)
