"""Each mistake a user can make gives one line that says what was wrong and what to do."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import annlib
from annlib.errors import AnnlibError, ConfigError, DataError, NonFiniteLossError

X = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
TABLE = np.array([["a", 1, 2]] * 20, dtype=object)


def linear(learning_rate: float = 0.01, compiled: bool = True) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    if compiled:
        model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="mse")
    return model


def message_of(kind: type[AnnlibError], call: Any) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("arguments", "kind", "parts"),
    [
        ({"batch_size": 0}, ConfigError, ["batch_size", "1 or more", "received 0"]),
        ({"batch_size": "a"}, ConfigError, ["batch_size", "whole number", "'a'"]),
        ({"batch_size": True}, ConfigError, ["batch_size", "whole number", "True"]),
        ({"batch_size": 2.5}, ConfigError, ["batch_size", "whole number", "2.5"]),
        ({"epochs": -1}, ConfigError, ["epochs", "0 or more", "-1"]),
        ({"initial_epoch": -1}, ConfigError, ["initial_epoch", "0 or more", "-1"]),
        ({"shuffle": "batch"}, ConfigError, ["shuffle", "True or False", "'batch'"]),
        ({"seed": -1}, ConfigError, ["seed", "0 or more", "-1"]),
        pytest.param(
            {"validation_batch_size": "a", "validation_data": (X, Y)},
            ConfigError,
            ["validation_batch_size", "'a'"],
        ),
        pytest.param(
            {"validation_batch_size": -3, "validation_data": (X, Y)},
            ConfigError,
            ["validation_batch_size", "-3"],
        ),
        ({"validation_data": X}, ConfigError, ["validation_data", "ndarray", "Pass a tuple"]),
        ({"validation_split": 0.99}, DataError, ["validation_split=0.99", "20 samples", "Give more data"]),
        ({"validation_split": 1.5}, DataError, ["validation_split=1.5", "between 0 and 1"]),
        ({"y": Y[:7]}, DataError, ["x: 20", "y: 7", "Check"]),
        ({"sample_weight": np.ones(7)}, DataError, ["sample_weight: 7", "Check"]),
        ({"sample_weight": np.ones(20), "class_weight": {0: 1.0}}, DataError, ["received both", "Multiply"]),
        ({"y": None, "sample_weight": np.ones(20)}, DataError, ["y=None", "Pass y"]),
        ({"x": tf.data.Dataset.from_tensors(X)}, DataError, ["x holds a", "Dataset", "numpy.asarray"]),
        ({"x": TABLE}, DataError, ["x has dtype object", "Convert"]),
        ({"x": X[:0], "y": Y[:0]}, DataError, ["x has shape (0, 3)", "at least one sample"]),
        pytest.param(
            {"x": np.array([["a", "b", "c"]] * 20)},
            DataError,
            ["x", "dtype"],
        ),
    ],
)
def test_a_wrong_argument_of_fit_is_named_with_a_remedy(arguments: Any, kind: Any, parts: list[str]) -> None:
    message = message_of(kind, lambda: annlib.fit(linear(), **{"x": X, "y": Y, "verbose": 0, **arguments}))
    for part in parts:
        assert part in message


@pytest.mark.parametrize("call", [annlib.fit, annlib.evaluate])
def test_a_model_that_is_not_compiled_is_refused(call: Any) -> None:
    assert "model.compile" in message_of(ConfigError, lambda: call(linear(compiled=False), X, Y))


@pytest.mark.parametrize("call", [annlib.evaluate, annlib.predict])
def test_a_wrong_batch_size_is_refused_outside_fit(call: Any) -> None:
    assert "batch_size" in message_of(ConfigError, lambda: call(linear(), X, batch_size=0))


def test_columns_that_the_model_does_not_take_are_refused_in_the_words_of_keras() -> None:
    with pytest.raises(ValueError, match=f"expected axis -1 of input shape to have value {X.shape[1]}") as error:
        annlib.predict(linear(), X[:, 1:])
    assert "in user code" not in str(error.value)


def test_a_loss_that_is_not_finite_names_epoch_and_learning_rate() -> None:
    model = linear(learning_rate=1e30)
    message = message_of(NonFiniteLossError, lambda: annlib.fit(model, X, Y, epochs=3, verbose=0, batch_size=20))
    assert "epoch 2" in message  # the first loss is taken before the first update
    assert "learning rate 1e+30" in message
    assert "smaller learning rate" in message


def test_a_nan_in_the_data_is_found_in_the_first_epoch() -> None:
    broken = X.copy()
    broken[3, 1] = np.nan
    message = message_of(NonFiniteLossError, lambda: annlib.fit(linear(), broken, Y, verbose=0))
    assert "epoch 1" in message
    assert "missing values" in message
