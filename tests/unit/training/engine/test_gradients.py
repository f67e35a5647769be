"""The engine's gradients against (f(w + e) - f(w - e)) / 2e of a forward pass written by hand in NumPy, in float64.

One SGD step on one batch shows the gradient: (weights before - weights after) / learning rate.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pytest

import annlib
from annlib.training.engine import compilation

Array = npt.NDArray[np.float64]
ROWS, FEATURES, HIDDEN = 6, 3, 4
# A power of two, so that neither float32 nor the division rounds it.
LEARNING_RATE = 0.5
# Smaller than what is asked of the gradients, 1e-6: at 1e-9 a computation in float32 would show.
TOLERANCE = 1e-9
EPSILON = 1e-5
# Kinks of ReLU, SELU, MAE and Huber have to be further away from the data than the weights are moved.
KINK_DISTANCE = 1e-3


def sigmoid(z: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-z))


def selu(z: Array) -> Array:
    # Klambauer et al., 2017, equation 2 and the constants below equation 14.
    return 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * (np.exp(z) - 1.0))


def softmax(z: Array) -> Array:
    powers = np.exp(z)
    return powers / powers.sum(axis=1, keepdims=True)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda z: z,
    "relu": lambda z: np.where(z > 0, z, 0.0),
    "selu": selu,
    "sigmoid": sigmoid,
    "softmax": softmax,
    "softplus": lambda z: np.log(1.0 + np.exp(z)),
    "tanh": np.tanh,
}


def huber(y: Array, p: Array) -> Array:
    error = np.abs(p - y)
    return np.mean(np.where(error <= 1.0, error**2 / 2.0, error - 0.5))


LOSSES: dict[str, Callable[[Array, Array], Any]] = {
    "mse": lambda y, p: np.mean((p - y) ** 2),
    "mae": lambda y, p: np.mean(np.abs(p - y)),
    "huber": huber,
    "binary_crossentropy": lambda y, p: -np.mean(y * np.log(p) + (1.0 - y) * np.log(1.0 - p)),
    "categorical_crossentropy": lambda y, p: -np.mean(np.sum(y * np.log(p), axis=1)),
    "sparse_categorical_crossentropy": lambda y, p: -np.mean(np.log(p[np.arange(len(y)), y.astype(int)])),
}

rng = np.random.default_rng(11)
X = rng.normal(size=(ROWS, FEATURES))
REAL = 2.0 * rng.normal(size=(ROWS, 3))
CLASSES = np.array([0, 1, 2, 2, 1, 0])
ONE_HOT = np.eye(3)[CLASSES]
LABELS = np.array([[0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]], dtype=float)
WEIGHTS = [rng.normal(size=shape) for shape in ((FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, 3), (3,))]


class Case(NamedTuple):
    hidden: str
    output: str
    loss: str
    y: npt.NDArray[Any]


CASES = [
    *(Case(activation, "linear", "mse", REAL) for activation in ACTIVATIONS),
    *(Case("tanh", activation, "mse", REAL) for activation in ("relu", "softplus")),
    Case("tanh", "linear", "mae", REAL),
    Case("tanh", "linear", "huber", REAL),
    Case("tanh", "sigmoid", "binary_crossentropy", LABELS),
    Case("tanh", "softmax", "categorical_crossentropy", ONE_HOT),
    Case("tanh", "softmax", "sparse_categorical_crossentropy", CLASSES),
]
all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.hidden}-{case.output}-{case.loss}")


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    # The policy of layers remembers the float type of its first use in the process.
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)


def loss_by_hand(case: Case, weights: list[Array]) -> float:
    hidden = ACTIVATIONS[case.hidden](X @ weights[0] + weights[1])
    return float(LOSSES[case.loss](case.y, ACTIVATIONS[case.output](hidden @ weights[2] + weights[3])))


def numeric_gradients(case: Case) -> list[Array]:
    gradients = [np.empty_like(weight) for weight in WEIGHTS]
    for layer, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            values = []
            for step in (EPSILON, -EPSILON):
                moved = [weight.copy() for weight in WEIGHTS]
                moved[layer][index] += step
                values.append(loss_by_hand(case, moved))
            gradient[index] = (values[0] - values[1]) / (2 * EPSILON)
    return gradients


def train_one_step(case: Case) -> tuple[list[Array], float]:
    """Returns the gradients and the loss of the engine."""
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(HIDDEN, activation=case.hidden),
            keras.layers.Dense(3, activation=case.output),
        ]
    )
    model.set_weights(WEIGHTS)
    model.compile(optimizer=keras.optimizers.SGD(LEARNING_RATE), loss=case.loss)
    history = annlib.fit(model, X, case.y, batch_size=ROWS, epochs=1, shuffle=False, verbose=0)
    after = model.get_weights()
    assert {weight.dtype for weight in after} == {np.dtype(np.float64)}
    gradients = [(before - now) / LEARNING_RATE for before, now in zip(WEIGHTS, after, strict=True)]
    return gradients, history.history["loss"][0]


def assert_gradients_are_the_numeric_ones(case: Case) -> None:
    gradients, loss = train_one_step(case)
    assert loss == pytest.approx(loss_by_hand(case, WEIGHTS), rel=1e-12)
    for received, expected in zip(gradients, numeric_gradients(case), strict=True):
        np.testing.assert_allclose(received, expected, rtol=0, atol=TOLERANCE)


@all_cases
def test_gradients_are_the_numeric_derivative(case: Case) -> None:
    assert_gradients_are_the_numeric_ones(case)


@pytest.mark.parametrize("case", [CASES[1], CASES[-1]], ids=lambda case: f"{case.hidden}-{case.output}-{case.loss}")
def test_gradients_inside_xla_are_the_numeric_derivative(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0)
    assert_gradients_are_the_numeric_ones(case)


def test_the_data_stays_away_from_kinks_and_meets_both_sides_of_them() -> None:
    inputs = X @ WEIGHTS[0] + WEIGHTS[1]
    outputs = np.tanh(inputs) @ WEIGHTS[2] + WEIGHTS[3]
    for distances in (inputs, outputs, outputs - REAL, np.abs(outputs - REAL) - 1.0):
        assert np.abs(distances).min() > KINK_DISTANCE
        assert distances.min() < 0 < distances.max()
