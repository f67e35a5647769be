from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import annlib
from annlib.errors import ConfigError
from annlib.training.engine.optimizers import gradients_already_reduced


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


class OwnMetrics(keras.Model):
    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return {**super().compute_metrics(x, y, y_pred, sample_weight), "bias": keras.ops.mean(y_pred - y)}


def test_a_value_that_is_of_no_metric_is_one_line() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        inputs = keras.Input((2,))
        model = OwnMetrics(inputs, layers.Dense(1)(inputs))
        model.compile("sgd", loss="mse")
    with pytest.raises(ConfigError, match="compute_metrics of OwnMetrics returns bias, of no metric: expected"):
        annlib.fit(model, np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), verbose=0)


@pytest.mark.parametrize(
    ("losses", "weights", "message"),
    [
        (
            [keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")] * 2,
            [np.ones(4, np.float32)] * 2,
            "several outputs have losses with the reduction mean_with_sample_weight",
        ),
        (
            [keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)] * 2,
            None,
            "the loss sparse_categorical_crossentropy is one of a whole batch",
        ),
    ],
)
def test_losses_that_replicas_cannot_put_together_are_one_line(
    losses: list[keras.losses.Loss], weights: list[np.ndarray] | None, message: str
) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        inputs = keras.Input((2,))
        model = keras.Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(1, name="b")(inputs)])
        model.compile("sgd", losses)
    y = np.ones((4, 1), np.float32)
    with pytest.raises(ConfigError, match=message):
        annlib.fit(model, np.ones((4, 2), np.float32), [y, y], sample_weight=weights, verbose=0)


@pytest.mark.parametrize("sync_every", [1, 2])
def test_several_optimizers_train_as_in_keras(sync_every: int) -> None:
    x = np.random.default_rng(1).normal(size=(20, 2)).astype("float32")
    y = x.sum(axis=1, keepdims=True)

    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="first"), layers.Dense(1)])
        parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.05), {"first/.*": keras.optimizers.Adam(0.02)})
        model.compile(keras.optimizers.MultiOptimizer(parts), "mse")
        return model

    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = build()
    arguments = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
    ours = annlib.fit(model, x, y, **arguments, options=annlib.StepOptions(sync_every=sync_every)).history["loss"]
    np.testing.assert_allclose(ours, build().fit(x, y, **arguments).history["loss"], rtol=1e-5)


def test_none_of_several_optimizers_adds_up_what_was_added_up() -> None:
    parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {"first/.*": keras.optimizers.Adam()})
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.MultiOptimizer(parts))
    with gradients_already_reduced(optimizer):
        assert [each._all_reduce_sum_gradients([1]) for each in optimizer.inner_optimizer.optimizers] == [[1], [1]]
    assert not any("_all_reduce_sum_gradients" in vars(each) for each in optimizer.inner_optimizer.optimizers)


def test_an_optimizer_among_several_that_accumulates_is_one_line() -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
        adam = keras.optimizers.Adam(gradient_accumulation_steps=2)
        parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(), {".*/bias": adam})
        model.compile(keras.optimizers.MultiOptimizer(parts), "mse")
    with pytest.raises(ConfigError, match="the optimizer has gradient_accumulation_steps=2"):
        annlib.fit(model, np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), verbose=0)
