"""What is kept of another library's error message."""

import pytest

from annlib.errors import last_line


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
