"""Numbers, durations and names as a person reads them."""

from typing import Any

import pytest

from annlib.reporting.wording import cell_text, duration_text, number_text, words_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.88473, "0.8847"),
        ("0.88473", "0.8847"),
        (1.0, "1.0000"),
        (0.0, "0.0000"),
        (3, "3"),
        ("12345", "12,345"),
        ("-3", "-3"),
        (0.00012345, "1.234e-04"),
        (-0.00012345, "-1.234e-04"),
        (0.001, "0.0010"),
        (12345.678, "12,345.7"),
        (1.5e12, "1.500e+12"),
        (float("nan"), "nan"),
        ("inf", "inf"),
        ("", ""),
        (None, ""),
        ("text", "text"),
        (True, "True"),
    ],
)
def test_a_number_has_the_decimals_it_needs(value: Any, text: str) -> None:
    assert number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (36.84, "36.8 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (3723.2, "1 h 2 min"),
        (360_000, "100 h 0 min"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("learning_rate", "0.009999999776482582", "0.01"),
        ("learning_rate", "9.2961e-05", "9.296e-05"),
        ("learning_rate", "", ""),
        ("samples_per_s", "21272.57", "21,273"),
        ("epoch", "1001", "1,001"),
        ("val_loss", "0.5", "0.5000"),
    ],
)
def test_a_cell_of_the_history_has_the_digits_of_its_column(column: str, value: str, text: str) -> None:
    assert cell_text(column, value) == text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sparse_categorical_accuracy", "sparse categorical accuracy"),
        ("val_mae", "validation mae"),
        ("samples_per_s", "samples/s"),
        ("interval_val_x", "interval val x"),
    ],
)
def test_names_become_words(name: str, words: str) -> None:
    assert words_of(name) == words
