"""The wide & deep builders against the models of the chapter written by hand, and the split of the columns."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import annlib
from annlib.errors import AnnlibError, ConfigError, DataError
from annlib.models.wide_deep import split_wide_deep, wide_deep, wide_deep_two_inputs

layers = keras.layers
# A multiple of the batch size: Keras weighs the outputs' own losses by batches, not by samples.
ROWS = 64
rng = np.random.default_rng(4)
X = rng.normal(size=(ROWS, 8)).astype("float32")
Y = (X[:, :1] - X[:, 7:] ** 2).astype("float32")
WIDE, DEEP = X[:, :5], X[:, 2:]


def one_input_by_hand() -> keras.Model:
    x = layers.Input(shape=(8,))
    hidden1 = layers.Dense(30, activation="relu")(x)
    hidden2 = layers.Dense(30, activation="relu")(hidden1)
    output = layers.Dense(1)(layers.Concatenate()([x, hidden2]))
    model = keras.Model(inputs=x, outputs=output)
    model.compile(loss="mean_squared_error", optimizer="sgd")
    return model


def two_inputs_by_hand(*, aux_output: bool) -> keras.Model:
    wide, deep = layers.Input(shape=(5,)), layers.Input(shape=(6,))
    hidden1 = layers.Dense(30, activation="relu")(deep)
    hidden2 = layers.Dense(30, activation="relu")(hidden1)
    output = layers.Dense(1, name="main_output")(layers.concatenate([wide, hidden2]))
    optimizer = keras.optimizers.SGD(learning_rate=1e-3)
    if not aux_output:
        model = keras.Model(inputs=[wide, deep], outputs=output)
        model.compile(loss="mae", optimizer=optimizer)
        return model
    aux = layers.Dense(1, name="aux_output")(hidden2)
    model = keras.Model(inputs=[wide, deep], outputs=[output, aux])
    model.compile(loss=["mse", "mse"], loss_weights=[0.9, 0.1], optimizer=optimizer)
    return model


class Case(NamedTuple):
    ours: Callable[[], keras.Model]
    theirs: Callable[[], keras.Model]
    x: Any
    y: Any


CASES = {
    "one input": Case(lambda: wide_deep(8), one_input_by_hand, X, Y),
    "two inputs": Case(
        lambda: wide_deep_two_inputs(loss="mae", optimizer=keras.optimizers.SGD(1e-3)),
        lambda: two_inputs_by_hand(aux_output=False),
        (WIDE, DEEP),
        Y,
    ),
    "auxiliary output": Case(
        lambda: wide_deep_two_inputs(aux_output=True, optimizer=keras.optimizers.SGD(1e-3)),
        lambda: two_inputs_by_hand(aux_output=True),
        (WIDE, DEEP),
        (Y, Y),
    ),
}
all_cases = pytest.mark.parametrize("name", CASES)


@functools.cache
def twins(name: str) -> tuple[keras.Model, keras.Model]:
    keras.utils.set_random_seed(5)
    ours, theirs = CASES[name].ours(), CASES[name].theirs()
    theirs.set_weights([weight + 0.01 for weight in theirs.get_weights()])
    return ours, theirs


@all_cases
def test_the_parameters_and_outputs_are_those_of_the_model_by_hand(name: str) -> None:
    ours, theirs = twins(name)
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(theirs.get_weights())
    x = CASES[name].x
    for received, expected in zip(keras.tree.flatten(ours(x)), keras.tree.flatten(theirs(x)), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


@all_cases
def test_annlib_trains_it_as_keras_trains_the_model_by_hand(name: str) -> None:
    ours, theirs = twins(name)
    ours.set_weights(theirs.get_weights())
    arguments = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}
    expected = theirs.fit(CASES[name].x, CASES[name].y, **arguments).history
    received = annlib.fit(ours, CASES[name].x, CASES[name].y, **arguments).history
    assert expected["loss"][0] != pytest.approx(expected["loss"][-1], rel=1e-3)
    assert set(expected) <= set(received)
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, rtol=1e-5, err_msg=key)


def test_each_output_has_its_metrics() -> None:
    model = wide_deep_two_inputs(aux_output=True)
    outputs = [output.numpy() for output in model((WIDE, DEEP))]
    logs = annlib.evaluate(model, (WIDE, DEEP), (Y, Y), return_dict=True)
    for name, output in zip(("main_output", "aux_output"), outputs, strict=True):
        assert logs[f"{name}_mae"] == pytest.approx(np.abs(output - Y).mean(), rel=1e-5)
        assert logs[f"{name}_root_mean_squared_error"] == pytest.approx(np.sqrt(((output - Y) ** 2).mean()), rel=1e-5)


def test_the_inputs_can_be_given_by_name() -> None:
    model = wide_deep_two_inputs()
    by_name = model({"deep_input": DEEP, "wide_input": WIDE})
    np.testing.assert_array_equal(by_name, model((WIDE, DEEP)))


def test_the_auxiliary_output_does_not_see_the_wide_input() -> None:
    model = wide_deep_two_inputs(aux_output=True)
    main, aux = model((WIDE, DEEP))
    other_main, other_aux = model((WIDE + 1.0, DEEP))
    np.testing.assert_array_equal(aux, other_aux)
    assert not np.allclose(main, other_main)


def test_inputs_have_the_numbers_of_columns_that_were_asked_for() -> None:
    shapes = {tensor.name: tensor.shape for tensor in wide_deep_two_inputs(2, 9).inputs}
    assert shapes == {"wide_input": (None, 2), "deep_input": (None, 9)}


# Split


def test_the_first_five_columns_go_wide_and_the_last_six_deep() -> None:
    wide, deep = split_wide_deep(np.arange(16).reshape(2, 8))
    np.testing.assert_array_equal(wide, [[0, 1, 2, 3, 4], [8, 9, 10, 11, 12]])
    np.testing.assert_array_equal(deep, [[2, 3, 4, 5, 6, 7], [10, 11, 12, 13, 14, 15]])


# Warnings and errors


def message_of(kind: type[AnnlibError], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "received" in message
    return message


@pytest.mark.parametrize("shape", [(8,), (3, 7), (3, 9), (2, 4, 8), ()])
def test_other_columns_are_not_split(shape: tuple[int, ...]) -> None:
    message = message_of(DataError, lambda: split_wide_deep(np.zeros(shape)))
    assert "expected shape (n, 8)" in message
    assert f"received {shape}" in message


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda: wide_deep(0), ["num_features", "1 or more", "received 0"]),
        (lambda: wide_deep_two_inputs(-1), ["num_wide", "received -1"]),
        (lambda: wide_deep_two_inputs(5, 2.5), ["num_deep", "received 2.5"]),  # type: ignore[arg-type]
    ],
)
def test_an_impossible_number_of_columns_is_one_line(call: Callable[[], Any], parts: list[str]) -> None:
    message = message_of(ConfigError, call)
    for part in parts:
        assert part in message


both_builders = pytest.mark.parametrize("build", [functools.partial(wide_deep, 8), wide_deep_two_inputs])


@both_builders
@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"hidden": ()}, "hidden names no layers"),
        ({"hidden": (30, -30)}, "received -30"),
        ({"hidden_activation": "rleu"}, "hidden_activation is unknown"),
        ({"loss": "crossentropy"}, "loss is unknown"),
        ({"optimizer": "sdg"}, "optimizer is unknown"),
    ],
)
def test_an_impossible_argument_is_one_line(build: Any, options: Any, part: str) -> None:
    assert part in message_of(ConfigError, lambda: build(**options))


@both_builders
def test_what_is_not_typical_warns_at_the_callers_line(build: Any) -> None:
    with pytest.warns(UserWarning, match="number of neurons") as caught:
        build(hidden=(300,))
    assert [warning.filename for warning in caught] == [__file__]
