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

from annlib.benchmark import CASES, Timing, measure, measure_peak_memory
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
        peaks = {name: measure_peak_memory(name, data_dir=arguments.data_dir) for name in names}
        Console().print(_table(timings, peaks))
        if arguments.json is not None:
            figures = {
                name: {**vars(timing), "ratio": timing.ratio, "peak_memory_bytes": peaks[name]}
                for name, timing in timings.items()
            }
            arguments.json.write_text(json.dumps(figures, indent=2))
        return 0

    return run_command(command)


def _table(timings: dict[str, Timing], peaks: dict[str, dict[str, int]]) -> Table:
    table = Table("case", "", "s/epoch", "ratio", "first call s", "peak memory MB")
    for name, timing in timings.items():
        for side, seconds, warm_up_s in (
            ("keras", timing.keras_s, timing.keras_warm_up_s),
            ("annlib", timing.annlib_s, timing.annlib_warm_up_s),
        ):
            first = side == "keras"
            table.add_row(
                name if first else "",
                side,
                _spread(seconds),
                "" if first else f"{timing.ratio:.1f}",
                f"{warm_up_s:.2f}",
                f"{peaks[name][side] / 1e6:,.0f}",
                end_section=not first,
            )
    return table


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3g} [{min(seconds):.3g}, {max(seconds):.3g}]"


if __name__ == "__main__":
    sys.exit(main())
