"""What is kept of another library's error message, and of values."""

import pytest

from annlib.errors import last_line, quoted


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("out of memory", "out of memory"),
        (
            "Graph execution error:\n\nDetected at node x\n\nIncompatible shapes: [2] vs. [3]\n\t [[{{node a}}]]\n",
            "Incompatible shapes: [2] vs. [3]",
        ),
        (
            "Exception encountered when calling A.call().\n\n\x1b[1mbad rank.\x1b[0m\n\nArguments received by A:\n  x",
            "bad rank",
        ),
        ("They differ.\ny_true: *\ny_pred: ['*', '*']\n", "They differ. y_true: * y_pred: ['*', '*']"),
        ("", "ValueError"),
        ("x" * 500, "x" * 400),
    ],
    ids=["plain", "tensorflow", "keras", "short", "empty", "long"],
)
def test_the_last_line_tells_the_reason(message: str, line: str) -> None:
    assert last_line(ValueError(message)) == line


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\xa0b\n", "'a\\xa0b\\n'"),
        ("x" * 40, repr("x" * 40)),
        ("x" * 41, repr("x" * 40 + "…")),
        (5.0, "5.0"),
        ([1] * 50, "[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, …"),
    ],
)
def test_a_value_is_shown_in_a_few_letters(value: object, text: str) -> None:
    assert quoted(value) == text
