"""Times annlib against `keras.Model.fit`: `python jobs/benchmark.py`."""

import json
import os
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console
from rich.table import Table

from annlib.benchmark import CASES, Timing, measure
from annlib.command import Parser, positive_integer, run_command


def main() -> int:
    """Parses the command line, times the cases and prints a table; returns the exit code."""
    parser = Parser(prog="jobs/benchmark.py", description="Time annlib against keras.Model.fit, a ratio of medians.")
    parser.add_argument("--case", action="append", choices=list(CASES), help="what to time (default: all)")
    parser.add_argument("--rounds", type=positive_integer, default=5, help="measurements of each side (default: 5)")
    parser.add_argument("--data-dir", type=Path, help="directory with the raw data files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

    def command() -> int:
        names = arguments.case or list(CASES)
        timings = {name: measure(CASES[name], rounds=arguments.rounds, data_dir=arguments.data_dir) for name in names}
        Console().print(_table(timings))
        if arguments.json is not None:
            figures = {name: {**vars(timing), "ratio": timing.ratio} for name, timing in timings.items()}
            arguments.json.write_text(json.dumps(figures, indent=2))
        return 0

    return run_command(command)


def _table(timings: dict[str, Timing]) -> Table:
    table = Table("case", "keras s/epoch", "annlib s/epoch", "ratio", "first call keras s", "first call annlib s")
    for name, timing in timings.items():
        table.add_row(
            name,
            _spread(timing.keras_s),
            _spread(timing.annlib_s),
            f"{timing.ratio:.1f}",
            f"{timing.keras_warm_up_s:.2f}",
            f"{timing.annlib_warm_up_s:.2f}",
        )
    return table


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.4f} ({min(seconds):.4f}-{max(seconds):.4f})"


if __name__ == "__main__":
    sys.exit(main())
