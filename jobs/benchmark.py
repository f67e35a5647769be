"""Times annlib against `keras.Model.fit` and other frameworks: `python jobs/benchmark.py`."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from annlib.benchmark.cases import CASES
from annlib.benchmark.guard import guard
from annlib.benchmark.run import SCALING, STREAMING, run
from annlib.command import Parser, positive_integer, run_command


def main() -> int:
    """Parses the command line, measures and prints; returns the exit code."""
    parser = Parser(
        prog="jobs/benchmark.py",
        description="Time annlib against keras.Model.fit and, where installed, JAX, PyTorch and scikit-learn, in turn.",
    )
    parser.add_argument(
        "--case",
        action="append",
        choices=[*CASES, SCALING, STREAMING],
        help="what to time, may be repeated (default: all)",
    )
    parser.add_argument("--rounds", type=positive_integer, default=5, help="measurements of each side (default: 5)")
    parser.add_argument("--data-dir", type=Path, help="directory with the raw data files")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them, a PNG file")
    parser.add_argument(
        "--compare",
        type=Path,
        metavar="FILE",
        help="time annlib and keras.Model.fit alone, compare the ratios with those of the file; exit code 1 when worse",
    )
    parser.add_argument("--record", action="store_true", help="write the ratios to the file of --compare instead")
    arguments = parser.parse_args()
    if arguments.record and arguments.compare is None:
        parser.error("--record writes the file of --compare, which is missing")
    is_case = all(name in CASES for name in arguments.case or [])
    if arguments.compare is not None and (arguments.json or arguments.plot or not is_case):
        parser.error(f"--compare goes without --json, --plot, and --case {SCALING} or {STREAMING}")

    # A log has no width of its own, and 80 columns are too few for the tables.
    console = Console(width=None if sys.stdout.isatty() else 120)

    def command() -> int:
        common = {"rounds": arguments.rounds, "data_dir": arguments.data_dir, "console": console}
        if arguments.compare is not None:
            return guard(arguments.case, arguments.compare, record=arguments.record, **common)
        run(arguments.case, json_path=arguments.json, plot_path=arguments.plot, **common)
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
