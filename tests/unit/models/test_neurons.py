"""Step functions, threshold logic units and their truth tables, by hand."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from annlib.errors import ConfigError, DataError
from annlib.models.neurons import (
    AND,
    AND_NOT,
    IDENTITY,
    OR,
    ThresholdLogicUnit,
    at_least,
    heaviside,
    layer_output,
    sgn,
    truth_table,
    xor,
)


def test_the_step_functions_have_the_books_values() -> None:
    z = [-1e4, -1e-300, -0.0, 0.0, 1e-300, 1e4]
    assert heaviside(z).tolist() == [0, 0, 1, 1, 1, 1]
    assert sgn(z).tolist() == [-1, -1, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("neuron", "logic"),
    [
        (IDENTITY, lambda a: a),
        (AND, lambda a, b: a and b),
        (OR, lambda a, b: a or b),
        (AND_NOT, lambda a, b: a and not b),
        (xor, lambda a, b: a != b),
    ],
)
def test_each_neuron_computes_its_logic(neuron: Callable[[Any], Any], logic: Callable[..., Any]) -> None:
    rows = list(itertools.product((0, 1), repeat=logic.__code__.co_argcount))
    assert neuron(rows).tolist() == [int(bool(logic(*row))) for row in rows]


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 5), (5, 5)])
def test_weights_may_be_an_array(k: int, n: int) -> None:
    assert ThresholdLogicUnit(np.ones(n), np.int64(k)) == at_least(np.int64(k), n)


@pytest.mark.parametrize(("k", "n"), [(1, 1), (2, 3), (3, 5), (5, 5)])
def test_at_least_k_of_n(k: int, n: int) -> None:
    rows = list(itertools.product((0, 1), repeat=n))
    assert at_least(k, n)(rows).tolist() == [int(sum(row) >= k) for row in rows]


def test_the_truth_table_is_readable() -> None:
    assert truth_table(AND_NOT, 2, output="A AND NOT B").splitlines() == [
        "A B | A AND NOT B",
        "0 0 |           0",
        "0 1 |           0",
        "1 0 |           1",
        "1 1 |           0",
    ]


def test_a_layers_output_is_the_activation_of_the_weighted_sums() -> None:
    x, weights, bias = [[1, 2], [3, 4]], [[1, 0, -1], [2, 1, 0]], [0.5, 0, 0]
    assert layer_output(x, weights, bias, lambda z: z).tolist() == [[5.5, 2, -1], [11.5, 4, -3]]
    assert layer_output(x, weights, [-6, -3, 0]).tolist() == [[0, 0, 0], [1, 1, 0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: heaviside(["a"]), DataError, "z is not numeric"),
        (lambda: sgn([[1], [1, 2]]), DataError, "z is ragged"),
        (lambda: AND([[1, 0, 1]]), DataError, "do not fit together"),
        (lambda: AND([1, 0]), DataError, "do not fit together"),
        (lambda: layer_output([[1]], [[1]], [1, 2]), DataError, r"received \(1, 1\), \(1, 1\), \(2,\)"),
        (lambda: at_least(4, 3), ConfigError, "expected 1 to 3 of 3 inputs; received 4"),
        (lambda: at_least(0, 3), ConfigError, "k is wrong; expected a whole number of 1 or more; received 0"),
        (lambda: ThresholdLogicUnit(1.0, 1), ConfigError, "one finite weight an input"),
        (lambda: ThresholdLogicUnit((), 1), ConfigError, "one finite weight an input"),
        (lambda: ThresholdLogicUnit((float("nan"),), 1), ConfigError, "one finite weight an input"),
        (lambda: truth_table(AND, 17), ConfigError, "expected 1 to 16; received 17"),
        (lambda: truth_table(AND, 2, names=["A"]), ConfigError, "expected one for each of 2 inputs; received 1"),
    ],
)
def test_bad_input_is_one_line(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
