import keras
import numpy as np
import pytest
import tensorflow as tf

import annlib
from annlib.errors import ConfigError


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (keras.losses.Dice(), "the loss dice is one of a whole batch: expected one of each row"),
        (keras.losses.MeanSquaredError(reduction=None), "the model's losses are reduced by None"),
    ],
)
def test_losses_whose_parts_cannot_be_put_together_are_refused_on_replicas(loss: keras.Loss, message: str) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile(loss=loss)
    with pytest.raises(ConfigError, match=message):
        annlib.fit(model, np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), verbose=0)
