"""The builders against the models of the chapter written by hand, the task found from targets, one line an error."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import annlib
from annlib.errors import AnnlibError, ConfigError, DataError
from annlib.models.mlp import ClassificationTask, classification_mlp, classification_task, regression_mlp

layers = keras.layers
ROWS = 70  # not a multiple of the batch size
rng = np.random.default_rng(3)
X = rng.normal(size=(ROWS, 8)).astype("float32")
IMAGES = rng.integers(0, 256, (ROWS, 5, 4)).astype("uint8")
REAL = rng.normal(size=ROWS)
TWO_REAL = rng.normal(size=(ROWS, 2))
POSITIVE = rng.exponential(3.0, (ROWS, 1))
CLASSES = rng.integers(0, 3, ROWS)
LABELS = rng.integers(0, 2, (ROWS, 4))


# Twins


def by_hand(shape: tuple[int, ...], *stack: layers.Layer, **compilation: Any) -> keras.Model:
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(optimizer=keras.optimizers.SGD(0.01), **compilation)
    return model


def dense(size: int, activation: str | None = None) -> layers.Layer:
    return layers.Dense(size, activation=activation)


class Case(NamedTuple):
    ours: Callable[[], keras.Model]
    theirs: Callable[[], keras.Model]
    y: Any
    x: Any = X
    x_by_hand: Any = X


CASES = {
    "regression mse": Case(
        lambda: regression_mlp(8, y=REAL),
        lambda: by_hand((8,), dense(30, "relu"), dense(1), loss="mse", metrics=["root_mean_squared_error", "mae"]),
        REAL,
    ),
    "regression mae, selu, 2 outputs": Case(
        lambda: regression_mlp((8,), y=TWO_REAL, loss="mae", hidden=(12, 10), hidden_activation="selu"),
        lambda: by_hand((8,), dense(12, "selu"), dense(10, "selu"), dense(2), loss="mae"),
        TWO_REAL,
    ),
    "regression huber, softplus": Case(
        lambda: regression_mlp(8, 1, y=POSITIVE, loss="huber", output_activation="softplus", optimizer="sgd"),
        lambda: by_hand((8,), dense(30, "relu"), dense(1, "softplus"), loss=keras.losses.Huber(1.0)),
        POSITIVE,
    ),
    "binary": Case(
        lambda: classification_mlp(8, CLASSES > 0, hidden=[20]),
        lambda: by_hand(
            (8,), dense(20, "relu"), dense(1, "sigmoid"), loss="binary_crossentropy", metrics=["binary_accuracy"]
        ),
        CLASSES > 0,
    ),
    "multilabel": Case(
        lambda: classification_mlp(8, LABELS, hidden=[20]),
        lambda: by_hand(
            (8,), dense(20, "relu"), dense(4, "sigmoid"), loss="binary_crossentropy", metrics=["binary_accuracy"]
        ),
        LABELS,
    ),
    "multiclass, one-hot": Case(
        lambda: classification_mlp(8, np.eye(3)[CLASSES], hidden=[20]),
        lambda: by_hand(
            (8,),
            dense(20, "relu"),
            dense(3, "softmax"),
            loss="categorical_crossentropy",
            metrics=["categorical_accuracy"],
        ),
        np.eye(3)[CLASSES],
    ),
    "multiclass, sparse, float column, images": Case(
        lambda: classification_mlp((5, 4), CLASSES[:, None] * 1.0, max_value=255),
        lambda: by_hand(
            (5, 4),
            layers.Flatten(),
            dense(300, "relu"),
            dense(100, "relu"),
            dense(3, "softmax"),
            loss="sparse_categorical_crossentropy",
            metrics=["sparse_categorical_accuracy"],
        ),
        CLASSES[:, None] * 1.0,
        IMAGES,
        (IMAGES / 255.0).astype("float32"),
    ),
}
all_cases = pytest.mark.parametrize("name", CASES)


@functools.cache
def twins(name: str) -> tuple[keras.Model, keras.Model]:
    """Returns the built and the hand-written model with the same weights, which are not those of the start."""
    keras.utils.set_random_seed(5)
    ours, theirs = CASES[name].ours(), CASES[name].theirs()
    theirs.set_weights([weight + 0.01 for weight in theirs.get_weights()])
    ours.set_weights(theirs.get_weights())
    return ours, theirs


@all_cases
def test_the_layers_parameters_and_outputs_are_those_of_the_model_by_hand(name: str) -> None:
    ours, theirs = twins(name)
    case = CASES[name]
    assert ours.count_params() == theirs.count_params()
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(ours(case.x), theirs(case.x_by_hand), rtol=1e-5, atol=1e-6)


@all_cases
def test_annlib_trains_it_as_keras_trains_the_model_by_hand(name: str) -> None:
    ours, theirs = twins(name)
    case = CASES[name]
    arguments = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}
    expected = theirs.fit(case.x_by_hand, case.y, **arguments).history
    received = annlib.fit(ours, case.x, case.y, **arguments).history
    assert expected["loss"][0] != pytest.approx(expected["loss"][-1], rel=1e-3)
    assert set(expected) <= set(received)
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, rtol=1e-5, err_msg=key)


def test_the_books_classifier_of_fashion_mnist_has_its_parameters_and_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = classification_mlp((28, 28), np.arange(10), max_value=255.0)
    assert model.count_params() == 266_610  # the book's model.summary()
    assert model.inputs[0].dtype == "uint8"


def test_the_defaults_of_the_regressor_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = regression_mlp(8)
    assert [layer.units for layer in model.layers] == [30, 1]


def test_selu_starts_from_lecuns_initialisation_and_relu_from_glorots() -> None:
    found = [type(regression_mlp(8, hidden_activation=name).layers[0].kernel_initializer) for name in ("selu", "relu")]
    assert found == [keras.initializers.LecunNormal, keras.initializers.GlorotUniform]


def test_a_given_optimizer_is_used() -> None:
    optimizer = keras.optimizers.Adam(0.003)
    assert regression_mlp(8, optimizer=optimizer).optimizer is optimizer


# Tasks


@pytest.mark.parametrize(
    ("y", "kind", "num_classes", "encoding"),
    [
        ([0, 1, 1], "binary", 2, "sparse"),
        ([True, False], "binary", 2, "sparse"),
        ([[0.0], [1.0]], "binary", 2, "sparse"),
        (np.array([2, 0, 1], np.uint8), "multiclass", 3, "sparse"),
        ([[3.0], [0.0], [1.0], [2.0]], "multiclass", 4, "sparse"),
        ([[1, 0], [0, 1]], "multiclass", 2, "one-hot"),
        (np.eye(5, dtype=bool), "multiclass", 5, "one-hot"),
        ([[1, 0, 1], [0, 1, 0]], "multilabel", 3, "multi-hot"),
        ([[0, 0], [0, 1]], "multilabel", 2, "multi-hot"),
    ],
)
def test_the_task_is_found_from_the_target(y: Any, kind: str, num_classes: int, encoding: str) -> None:
    task = classification_task(y)
    assert (task.kind, task.num_classes, task.encoding) == (kind, num_classes, encoding)


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        ([0, 1], (1, "sigmoid", "binary_crossentropy", "binary_accuracy")),
        ([0, 1, 2], (3, "softmax", "sparse_categorical_crossentropy", "sparse_categorical_accuracy")),
        ([[0, 1], [1, 0]], (2, "softmax", "categorical_crossentropy", "categorical_accuracy")),
        ([[0, 1], [1, 1]], (2, "sigmoid", "binary_crossentropy", "binary_accuracy")),
    ],
)
def test_the_output_layer_loss_and_metric_are_those_of_table_10_2(y: Any, expected: tuple[Any, ...]) -> None:
    task = classification_task(y)
    assert (task.num_outputs, task.output_activation, task.loss, task.metric) == expected


def test_a_task_can_be_given_for_targets_that_lack_a_class() -> None:
    task = ClassificationTask(kind="multiclass", num_classes=7, encoding="sparse")
    assert classification_mlp(8, task).output_shape == (None, 7)


# Warnings and errors


def task(kind: Any, num_classes: Any, encoding: Any) -> ClassificationTask:
    return ClassificationTask(kind=kind, num_classes=num_classes, encoding=encoding)


@pytest.mark.parametrize("build", [lambda **options: classification_mlp(8, [0, 1], **options), regression_mlp])
@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"hidden": (10,) * 6}, ["number of hidden layers", "typical 1 to 5", "received 6"]),
        ({"hidden": (300, 100)}, ["number of neurons", "typical 10 to 100", "received 300, 100"]),
        ({"hidden": (9,)}, ["number of neurons", "typical 10 to 100", "received 9"]),
        ({"hidden_activation": "tanh"}, ["hidden activation", "typical relu or selu", "received tanh"]),
    ],
)
def test_what_is_not_typical_warns_at_the_callers_line(build: Any, options: Any, parts: list[str]) -> None:
    arguments = {"input_shape": 8, **options} if build is regression_mlp else options
    with pytest.warns(UserWarning, match=parts[0]) as caught:
        build(**arguments)
    assert [warning.filename for warning in caught] == [__file__]
    for part in parts[1:]:
        assert part in str(caught[0].message)


def test_the_ends_of_the_typical_ranges_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regression_mlp(8, hidden=(10,))
        regression_mlp(8, hidden=(100,) * 5)


def message_of(kind: type[AnnlibError], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert "expected" in message
    assert "received" in message
    return message


@pytest.mark.parametrize(
    ("y", "parts"),
    [
        ([], ["another shape", "(0,)"]),
        (3, ["another shape", "()"]),
        (np.zeros((2, 2, 2)), ["another shape", "(2, 2, 2)"]),
        (["a", "b"], ["not numeric", "numpy.unique"]),
        (None, ["not numeric", "object"]),
        ([[1], [0, 1]], ["ragged"]),
        ([0.0, np.nan, np.inf], ["not finite", "2 NaN"]),
        ([0, 0, 0], ["one class only", "[0] in all 3 rows"]),
        ([[0, 1], [0, 1]], ["one class only", "[0, 1]"]),
        ([0.0, 1.0, 1.5], ["whole numbers", "1.5", "regression"]),
        ([1, 2, 3], ["do not start at 0", "expected 0 to 2", "received 1 to 3", "numpy.unique"]),
        ([-1, 1], ["do not start at 0", "received -1 to 1"]),
        ([0, 1, 3], ["skip a class", "expected 0 to 2", "3 different labels up to 3", "ClassificationTask"]),
        ([0, 2], ["skip a class", "expected 0 to 1"]),
        ([[0, 2], [1, 0]], ["neither one-hot nor multilabel", "zeros and ones", "received 2"]),
        ([[0.5, 0.5], [1, 0]], ["neither one-hot nor multilabel", "received 0.5"]),
    ],
)
def test_targets_of_no_classification_are_one_line(y: Any, parts: list[str]) -> None:
    for call in (lambda: classification_task(y), lambda: classification_mlp(8, y)):
        message = message_of(DataError, call)
        for part in parts:
            assert part in message


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("binary", 2, "one-hot"), ["task is unknown", "multiclass one-hot", "received binary one-hot"]),
        (("ordinal", 3, "sparse"), ["task is unknown", "received ordinal sparse"]),
        (("binary", 3, "sparse"), ["binary task", "expected 2", "received 3"]),
        (("multiclass", 1, "sparse"), ["num_classes", "2 or more", "received 1"]),
    ],
)
def test_an_impossible_task_is_one_line(arguments: tuple[Any, ...], parts: list[str]) -> None:
    message = message_of(ConfigError, lambda: task(*arguments))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    "build", [lambda shape, **options: classification_mlp(shape, [0, 1], **options), regression_mlp]
)
@pytest.mark.parametrize(
    ("shape", "options", "parts"),
    [
        (0, {}, ["input_shape", "1 or more", "received 0"]),
        ((8, -1), {}, ["input_shape", "received -1"]),
        ((), {}, ["input_shape", "received ()"]),
        (2.5, {}, ["input_shape", "received 2.5"]),
        (8, {"hidden": ()}, ["hidden names no layers", "1 or more", "received ()"]),
        (8, {"hidden": 30}, ["hidden names no layers", "received 30"]),
        (8, {"hidden": "30"}, ["hidden names no layers", "received '30'"]),
        (8, {"hidden": (30, 0)}, ["number of neurons", "1 or more", "received 0"]),
        (8, {"hidden": (-3,)}, ["number of neurons", "received -3"]),
        (8, {"hidden": (True,)}, ["number of neurons", "received True"]),
        (8, {"hidden_activation": "rleu"}, ["hidden_activation is unknown", "relu or selu", "'rleu'"]),
        (8, {"hidden_activation": None}, ["hidden_activation is unknown", "received None"]),
        (8, {"optimizer": "sdg"}, ["optimizer is unknown", "'sdg'"]),
        (8, {"optimizer": None}, ["optimizer is unknown", "received None"]),
        (8, {"max_value": 0}, ["max_value", "positive", "received 0"]),
        (8, {"max_value": float("nan")}, ["max_value", "received nan"]),
    ],
)
def test_an_impossible_argument_is_one_line(build: Any, shape: Any, options: Any, parts: list[str]) -> None:
    message = message_of(ConfigError, lambda: build(shape, **options))
    for part in parts:
        assert part in message


def test_an_optimizer_of_another_model_is_refused() -> None:
    optimizer = keras.optimizers.SGD()
    optimizer.build(regression_mlp(8).trainable_variables)
    assert "already trains another model" in message_of(ConfigError, lambda: regression_mlp(8, optimizer=optimizer))


@pytest.mark.parametrize(
    ("kind", "options", "parts"),
    [
        (ConfigError, {"num_outputs": 0}, ["num_outputs", "1 or more", "received 0"]),
        (ConfigError, {"loss": "msle"}, ["loss is unknown", "mse, mae, huber", "'msle'"]),
        (ConfigError, {"output_activation": "softmax"}, ["output_activation is unknown", "None, relu", "'softmax'"]),
        (DataError, {"y": [1.0, np.nan]}, ["not finite", "1 NaN"]),
        (DataError, {"y": ["a"]}, ["not numeric"]),
        (DataError, {"y": [[1.0, 2.0]], "num_outputs": 3}, ["num_outputs", "3 columns", "received 2"]),
        (DataError, {"y": [-0.1, 2], "output_activation": "relu"}, ["relu", "0 to inf", "-0.1 to 2.0"]),
        (DataError, {"y": [-0.1, 2], "output_activation": "softplus"}, ["softplus", "0 to inf"]),
        (DataError, {"y": [0.5, 1.1], "output_activation": "sigmoid"}, ["sigmoid", "0 to 1", "0.5 to 1.1"]),
        (DataError, {"y": [-1.1, 0], "output_activation": "tanh"}, ["tanh", "-1 to 1", "-1.1 to 0.0"]),
    ],
)
def test_an_impossible_regression_is_one_line(kind: type[AnnlibError], options: Any, parts: list[str]) -> None:
    message = message_of(kind, lambda: regression_mlp(8, **options))
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("activation", "y"),
    [(None, [-9, 9]), ("relu", [0, 9]), ("softplus", [0, 9]), ("sigmoid", [0, 1]), ("tanh", [-1, 1])],
)
def test_targets_that_the_output_can_reach_or_approach_pass(activation: str | None, y: list[int]) -> None:
    model = regression_mlp(8, y=y, output_activation=activation)
    assert model.layers[-1].activation is keras.activations.get(activation)
