"""The activation functions of A. Géron, Hands-On Machine Learning, chapter 10, and numeric derivatives. NumPy only."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from annlib.errors import ConfigError, DataError

Array = npt.NDArray[Any]
Activation = Callable[[npt.ArrayLike], Array]


def step(z: npt.ArrayLike) -> Array:
    """Returns the Heaviside step function: 0 where z < 0, else 1; the perceptron's function.

    Args:
        z: any shape; floating point keeps its dtype, integers and booleans become float64.

    Raises:
        DataError: `z` is not numeric.
    """
    return np.asarray(np.heaviside(_floating(z), 1.0))


def sigmoid(z: npt.ArrayLike) -> Array:
    """Returns 1 / (1 + exp(-z)), from 0 to 1; arguments and errors as of `step`."""
    z = _floating(z)
    # exp(-|z|) cannot overflow, and where it underflows 0 is the right value.
    with np.errstate(under="ignore"):
        small = np.exp(-np.abs(z))
        return np.asarray(np.where(z >= 0, 1.0, small) / (1.0 + small), dtype=z.dtype)


def tanh(z: npt.ArrayLike) -> Array:
    """Returns the hyperbolic tangent, 2 sigmoid(2z) - 1, from -1 to 1; arguments and errors as of `step`."""
    return np.asarray(np.tanh(_floating(z)))


def relu(z: npt.ArrayLike) -> Array:
    """Returns max(0, z); arguments and errors as of `step`."""
    return np.asarray(np.maximum(_floating(z), 0.0))


def softplus(z: npt.ArrayLike) -> Array:
    """Returns log(1 + exp(z)), a smooth variant of ReLU; arguments and errors as of `step`."""
    z = _floating(z)
    with np.errstate(under="ignore"):
        return np.asarray(np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z))))


# In the order in which the chapter introduces them.
ACTIVATIONS: dict[str, Activation] = {
    "step": step,
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "softplus": softplus,
}


def numeric_derivative(function: Activation, z: npt.ArrayLike, *, epsilon: float = 1e-6) -> npt.NDArray[np.float64]:
    """Returns the central difference (f(z + ε) - f(z - ε)) / 2ε, as in the notebook of the book's chapter 10.

    Its error is about f'''(z) ε²/6 plus the rounding of f divided by ε. Where `function` jumps within ε of z, the
    result is the jump divided by 2ε.

    Args:
        function: maps an array to an array of the same shape, element by element.
        z: any shape; computed in float64, because in float32 z + ε would be z.
        epsilon: half the distance of the two points, above 0.

    Raises:
        ConfigError: `epsilon` is not above 0 and finite.
        DataError: `z` is not numeric.
    """
    if not (np.isfinite(epsilon) and epsilon > 0):
        raise ConfigError(f"epsilon is out of range; expected a number above 0; received {epsilon}; use 1e-6")
    points = _floating(z).astype(np.float64)
    difference = np.asarray(function(points + epsilon)) - np.asarray(function(points - epsilon))
    return np.asarray(difference / (2.0 * epsilon), dtype=np.float64)


def _floating(z: npt.ArrayLike) -> Array:
    array = np.asarray(z)
    if array.dtype.kind not in "biuf":
        raise DataError(f"z is not numeric; expected numbers; received dtype {array.dtype}; convert it first")
    return array if array.dtype.kind == "f" else array.astype(np.float64)
