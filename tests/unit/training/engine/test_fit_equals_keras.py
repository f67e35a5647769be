"""`annlib.fit` gives what `keras.Model.fit(shuffle=False)` gives, case by case, as a plain graph and inside XLA."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest

import annlib
from annlib.training.engine import compilation

ROWS = 103  # not a multiple of the batch size: the last batch has 7 rows
BATCH_SIZE = 16
EPOCHS = 3
TOLERANCE = 1e-5

layers = keras.layers
rng = np.random.default_rng(7)
FLAT = rng.normal(size=(ROWS, 6)).astype("float32")
IMAGES = rng.normal(size=(ROWS, 6, 6, 1)).astype("float32")
WIDE, DEEP = rng.normal(size=(ROWS, 3)), rng.normal(size=(ROWS, 5))
CLASSES = rng.integers(0, 3, ROWS)
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
REAL = rng.normal(size=(ROWS, 1)).astype("float32")
SAMPLE_WEIGHT = rng.random(ROWS)


def dense() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="tanh", kernel_regularizer="l2"),
            layers.Dense(3, activation="softmax"),
        ]
    )


def cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(3, 3, activation="tanh"),
            layers.BatchNormalization(momentum=0.8),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def two_inputs(pack: Callable[[Any, Any], Any]) -> keras.Model:
    wide, deep = keras.Input((3,), name="wide"), keras.Input((5,), name="deep")
    hidden = layers.Dense(6, activation="tanh")(deep)
    return keras.Model(pack(wide, deep), layers.Dense(1)(layers.concatenate([wide, hidden])))


def two_inputs_as_dict() -> keras.Model:
    return two_inputs(lambda wide, deep: {"wide": wide, "deep": deep})


def two_inputs_as_tuple() -> keras.Model:
    return two_inputs(lambda wide, deep: (wide, deep))


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(6, activation="tanh")
        self.normalize = layers.BatchNormalization()
        self.out = layers.Dense(3, activation="softmax")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.normalize(self.hidden(x), training=training))


def two_outputs() -> keras.Model:
    x = keras.Input((6,))
    hidden = layers.Dense(6, activation="tanh")(x)
    return keras.Model(
        x,
        {
            "kind": layers.Dense(3, activation="softmax", name="kind")(hidden),
            "size": layers.Dense(1, name="size")(hidden),
        },
    )


class Extremes(keras.metrics.Metric):
    """The smallest and the largest output: a metric of several values."""

    def __init__(self) -> None:
        super().__init__(name="extremes")
        self.low = self.add_weight(name="low", initializer="ones")
        self.high = self.add_weight(name="high", initializer="zeros")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.low.assign(keras.ops.minimum(self.low, keras.ops.min(y_pred)))
        self.high.assign(keras.ops.maximum(self.high, keras.ops.max(y_pred)))

    def reset_state(self) -> None:
        self.low.assign(1.0)
        self.high.assign(0.0)

    def result(self) -> Any:
        return {"extremes_high": self.high * 1.0, "extremes_low": self.low * 1.0}


class Case(NamedTuple):
    model: Callable[[], keras.Model]
    optimizer: Callable[[], keras.optimizers.Optimizer]
    x: Any
    y: Any
    loss: Any = "sparse_categorical_crossentropy"
    metrics: Any = ("accuracy",)
    compile: dict[str, Any] = {}  # noqa: RUF012
    fit: dict[str, Any] = {}  # noqa: RUF012


def _sgd() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.05)


def _momentum() -> keras.optimizers.Optimizer:
    return keras.optimizers.SGD(0.02, momentum=0.9)


def _adam() -> keras.optimizers.Optimizer:
    return keras.optimizers.Adam(0.01, clipnorm=0.5)


def _adamw_with_schedule() -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.8), weight_decay=0.02)


WEIGHTED = {"weighted_metrics": [keras.metrics.SparseCategoricalCrossentropy]}
CASES = {
    "dense-sgd": Case(dense, _sgd, FLAT, CLASSES, fit={"validation_split": 0.2}),
    "dense-momentum-sample_weight": Case(
        dense, _momentum, FLAT, CLASSES, compile=WEIGHTED, fit={"sample_weight": SAMPLE_WEIGHT}
    ),
    "dense-adam-class_weight": Case(dense, _adam, FLAT, CLASSES, fit={"class_weight": {0: 1.0, 1: 2.5, 2: 0.3}}),
    # Its validation is not weighted.
    "dense-class_weight-validation_split": Case(
        dense, _sgd, FLAT, CLASSES, fit={"class_weight": {0: 1.0, 1: 5.0, 2: 0.1}, "validation_split": 0.2}
    ),
    "dense-metric_of_two_values": Case(dense, _sgd, FLAT, CLASSES, metrics=(Extremes,)),
    "dense-one_hot-class_weight": Case(
        dense, _sgd, FLAT, ONE_HOT, "categorical_crossentropy", fit={"class_weight": {0: 2.0, 2: 0.5}}
    ),
    "cnn-batch_normalization": Case(
        cnn,
        _momentum,
        IMAGES,
        CLASSES,
        fit={"validation_data": (IMAGES[:41], CLASSES[:41]), "validation_batch_size": 9},
    ),
    "dict-adamw-schedule": Case(
        two_inputs_as_dict,
        _adamw_with_schedule,
        {"wide": WIDE, "deep": DEEP},
        REAL,
        "mse",
        ("mae",),
        fit={"validation_data": ({"wide": WIDE[:50], "deep": DEEP[:50]}, REAL[:50], SAMPLE_WEIGHT[:50])},
    ),
    "tuple-momentum": Case(two_inputs_as_tuple, _momentum, (WIDE, DEEP), REAL, "mse", ("mae",)),
    "subclassed-sgd": Case(Subclassed, _sgd, FLAT, CLASSES, fit={"validation_split": 0.3}),
    "two_outputs-adam": Case(
        two_outputs,
        _adam,
        FLAT,
        {"kind": CLASSES, "size": REAL},
        {"kind": "sparse_categorical_crossentropy", "size": "mse"},
        {"kind": ["accuracy"], "size": ["mae"]},
        compile={"loss_weights": {"kind": 0.7, "size": 2.0}},
    ),
}


def metrics_of(case: Case) -> Any:
    if isinstance(case.metrics, dict):
        return case.metrics
    return [each() if isinstance(each, type) else each for each in case.metrics]


class Result(NamedTuple):
    history: dict[str, list[float]]
    weights: list[np.ndarray]
    modes: list[str]


@functools.cache
def run(name: str, engine: str) -> Result:
    case = CASES[name]
    keras.utils.set_random_seed(3)
    model = case.model()
    extra = dict(case.compile)
    if "weighted_metrics" in extra:
        extra["weighted_metrics"] = [make() for make in extra["weighted_metrics"]]
    metrics = metrics_of(case)
    if engine == "keras" and isinstance(case.loss, dict):
        # As a graph, Keras does not know the rows of a batch and lets a smaller last batch weigh as much as the others
        # in each output's loss; eagerly it weighs by rows, which gives the mean over the samples.
        extra["run_eagerly"] = True
    model.compile(optimizer=case.optimizer(), loss=case.loss, metrics=metrics, **extra)
    arguments = {"batch_size": BATCH_SIZE, "epochs": EPOCHS, "shuffle": False, "verbose": 0, **case.fit}
    modes: list[str] = []
    if engine == "keras":
        history = model.fit(case.x, case.y, **arguments)
    else:
        choose = compilation._choose

        def spy(*args: Any) -> Any:
            chosen = choose(*args)
            modes.append(chosen.mode)
            return chosen

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0 if engine == "xla" else 10**9)
            patch.setattr(compilation, "_SLOW_IN_XLA_ON_CPU", ())
            patch.setattr(compilation, "_choose", spy)
            history = annlib.fit(model, case.x, case.y, **arguments)
    return Result(history.history, model.get_weights(), modes)


# XLA compiles the same steps, slowly: four cases that differ in layers, optimizer, inputs and weights are enough.
IN_XLA = ("dense-momentum-sample_weight", "dict-adamw-schedule")
SLOW_IN_XLA = ("dense-sgd", "cnn-batch_normalization")
all_cases = pytest.mark.parametrize(
    ("name", "engine"),
    [
        *((name, "graph") for name in CASES),
        *((name, "xla") for name in IN_XLA),
        *(pytest.param(name, "xla", marks=pytest.mark.slow) for name in SLOW_IN_XLA),
    ],
)


@all_cases
def test_history_has_the_keys_of_keras_in_the_same_order(name: str, engine: str) -> None:
    assert list(run(name, engine).history) == list(run(name, "keras").history)


@all_cases
def test_history_has_the_values_of_keras(name: str, engine: str) -> None:
    expected = run(name, "keras").history
    for key, values in run(name, engine).history.items():
        np.testing.assert_allclose(values, expected[key], rtol=TOLERANCE, err_msg=key)


@all_cases
def test_weights_are_those_of_keras(name: str, engine: str) -> None:
    expected = run(name, "keras").weights
    received = run(name, engine).weights
    assert len(received) == len(expected)
    for ours, theirs in zip(received, expected, strict=True):
        assert np.linalg.norm(ours - theirs) <= TOLERANCE * np.linalg.norm(theirs)


@all_cases
def test_the_mode_under_test_is_the_one_that_ran(name: str, engine: str) -> None:
    assert set(run(name, engine).modes) == {engine}


@pytest.mark.parametrize("name", CASES)
def test_evaluate_has_the_values_of_keras_with_a_smaller_last_batch(name: str) -> None:
    case = CASES[name]
    keras.utils.set_random_seed(3)
    model = case.model()
    metrics = metrics_of(case)
    # Eagerly for the reason given above.
    options = {"loss": case.loss, "metrics": metrics, **{k: v for k, v in case.compile.items() if k == "loss_weights"}}
    model.compile(**options, run_eagerly=True)
    expected = model.evaluate(case.x, case.y, batch_size=BATCH_SIZE, verbose=0, return_dict=True)
    model.compile(**options)
    received = annlib.evaluate(model, case.x, case.y, batch_size=BATCH_SIZE, return_dict=True)
    assert received == pytest.approx(expected, rel=TOLERANCE)
