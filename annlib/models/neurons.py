"""Neurons with fixed weights: step functions, threshold logic units, and the logic they compute. NumPy only.

Source: A. Géron, Hands-On Machine Learning, chapter 10: McCulloch and Pitts' logic (figure 10-3), the threshold logic
unit (figure 10-4), equations 10-1 and 10-2, the XOR network (figure 10-6).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from annlib.errors import ConfigError, DataError
from annlib.models.activations import step

Array = npt.NDArray[Any]


heaviside = step


def sgn(z: npt.ArrayLike) -> Array:
    """Returns -1 where z < 0, 0 where z = 0, +1 where z > 0 (equation 10-1), as float64, in the shape of z."""
    return np.sign(_numbers("z", z)).astype(np.float64)


def layer_output(
    x: npt.ArrayLike, weights: npt.ArrayLike, bias: npt.ArrayLike, activation: Callable[[Array], Array] = heaviside
) -> Array:
    """Returns the outputs of a layer of neurons, h = φ(XW + b) (equation 10-2).

    Args:
        x: one row a sample, shape (n, num_inputs).
        weights: one column a neuron, shape (num_inputs, num_neurons).
        bias: shape (num_neurons,).
        activation: φ, applied to the whole array.

    Returns:
        Shape (n, num_neurons).

    Raises:
        DataError: an array is not numeric, or the shapes do not fit together.
    """
    x, weights, bias = _numbers("x", x), _numbers("weights", weights), _numbers("bias", bias)
    fits = x.ndim == weights.ndim == 2 and x.shape[1] == len(weights) and bias.shape == weights.shape[1:]
    if not fits:
        raise DataError(
            "the layer's arrays do not fit together; expected x (n, inputs), weights (inputs, neurons) and bias "
            f"(neurons,); received {x.shape}, {weights.shape}, {bias.shape}; correct the shapes"
        )
    return activation(x @ weights + bias)


@dataclass(frozen=True)
class ThresholdLogicUnit:
    """A neuron that fires, 1, where the weighted sum of its inputs reaches its threshold, and gives 0 elsewhere.

    Args:
        weights: one number an input, at least one, kept as a tuple; negative ones inhibit.
        threshold: in the unit of the weighted sum.

    Raises:
        ConfigError: there are no weights, or a value is not a finite number.
    """

    weights: Sequence[float]
    threshold: float

    def __post_init__(self) -> None:
        try:
            weights = tuple(float(weight) for weight in self.weights)
            valid = bool(weights) and all(math.isfinite(value) for value in (*weights, float(self.threshold)))
        except (TypeError, ValueError):
            valid = False
        if not valid:
            raise ConfigError(
                "a threshold logic unit needs one finite weight an input and a finite threshold; received weights "
                f"{self.weights!r} and threshold {self.threshold!r}; correct them"
            )
        object.__setattr__(self, "weights", weights)

    def __call__(self, x: npt.ArrayLike) -> Array:
        """Returns the outputs, int64, shape (n,), for inputs of shape (n, number of weights)."""
        weights = np.array(self.weights, dtype=np.float64).reshape(-1, 1)
        return layer_output(x, weights, [-self.threshold])[:, 0].astype(np.int64)


IDENTITY = ThresholdLogicUnit(weights=(1,), threshold=1)
AND = ThresholdLogicUnit(weights=(1, 1), threshold=2)
OR = ThresholdLogicUnit(weights=(1, 1), threshold=1)
# The book's figure takes A twice and needs two active inputs; B inhibits. With A always active it is NOT B.
AND_NOT = ThresholdLogicUnit(weights=(2, -1), threshold=2)


def at_least(k: int, n: int) -> ThresholdLogicUnit:
    """Returns the neuron that fires when at least k of its n inputs are active.

    Raises:
        ConfigError: not 1 <= k <= n.
    """
    for name, value in (("k", k), ("n", n)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ConfigError(f"{name} is wrong; expected a whole number of 1 or more; received {value!r}; correct it")
    if k > n:
        raise ConfigError(f"k is larger than n; expected 1 to {n} of {n} inputs; received {k}; correct one of them")
    return ThresholdLogicUnit(weights=(1,) * int(n), threshold=k)


def xor(x: npt.ArrayLike) -> Array:
    """Returns A XOR B for inputs of shape (n, 2), int64, shape (n,): two layers of neurons, which one neuron cannot do.

    The hidden neurons are AND and OR; the output fires for OR and not AND (figure 10-6: weights -1 and 1).
    """
    x = _numbers("x", x)
    return AND_NOT(np.column_stack([OR(x), AND(x)]))


def truth_table(
    neuron: Callable[[Array], Array], num_inputs: int, *, names: Sequence[str] | None = None, output: str = "out"
) -> str:
    """Returns what a neuron gives for all combinations of inputs, a line a combination, under a header.

    Args:
        neuron: takes inputs of shape (n, num_inputs) and returns 0 or 1 for each row.
        num_inputs: 1 to 16.
        names: of the inputs; A, B, C, ... when None.
        output: heads the last column.

    Raises:
        ConfigError: num_inputs is out of range, or there is not a name for each input.
    """
    if isinstance(num_inputs, bool) or not isinstance(num_inputs, int) or not 1 <= num_inputs <= 16:
        raise ConfigError(f"num_inputs is wrong; expected 1 to 16; received {num_inputs!r}; correct it")
    names = [chr(ord("A") + i) for i in range(num_inputs)] if names is None else list(names)
    if len(names) != num_inputs:
        raise ConfigError(f"names do not fit; expected one for each of {num_inputs} inputs; received {len(names)}")
    rows = np.array(list(itertools.product((0, 1), repeat=num_inputs)))
    results = neuron(rows)
    lines = [" ".join(names) + f" | {output}"]
    for row, result in zip(rows, results, strict=True):
        cells = (str(value).rjust(len(name)) for value, name in zip(row, names, strict=True))
        lines.append(" ".join(cells) + f" | {str(int(result)).rjust(len(output))}")
    return "\n".join(lines)


def _numbers(name: str, value: npt.ArrayLike) -> Array:
    try:
        array = np.asarray(value)
    except ValueError:
        raise DataError(f"{name} is ragged; expected rows of equal length; give an array") from None
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} is not numeric; expected numbers; received dtype {array.dtype}; convert it first")
    return array.astype(np.float64)
