"""Evaluates a finished run: `python jobs/evaluate.py runs/NAME`."""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console

from annlib.artifacts import check_can_be_written, write_atomically
from annlib.command import Parser, run_command
from annlib.evaluation import evaluate_run, figures_tables
from annlib.loading import open_run
from annlib.reporting.terminal import print_line
from annlib.storage import check_storage


def main() -> int:
    """Parses the command line, evaluates and prints the figures; returns the exit code."""
    parser = Parser(prog="jobs/evaluate.py", description="Evaluate the model of a finished run on one of its splits.")
    parser.add_argument("run", metavar="RUN", help="run directory that jobs/train.py made, a path or a URI")
    parser.add_argument("--data-dir", type=Path, help="directory with the raw data files (default: the run's)")
    parser.add_argument("--data", help="where the table is now, of a run on a table (default: the run's)")
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), default="test", help="part of the data (default: test)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    arguments = parser.parse_args()

    def command() -> int:
        if arguments.json is not None:
            check_can_be_written(arguments.json)
        run = open_run(arguments.run)
        figures = evaluate_run(run, split=arguments.split, data_dir=arguments.data_dir, table=arguments.data)
        console = Console()
        for table in figures_tables(figures):
            console.print(table)
        if arguments.json is not None:
            write_atomically(arguments.json, json.dumps(figures, indent=2, allow_nan=False).encode())
        print_line(console, check_storage(arguments.run))
        return 0

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
