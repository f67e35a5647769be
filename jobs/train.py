"""Trains a workload: `python jobs/train.py fashion-mnist`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from rich.console import Console

from annlib import run
from annlib.command import Parser, add_run_flags, given_values, run_command
from annlib.config import load_config
from annlib.workloads import WORKLOADS, find


def main() -> int:
    """Parses the command line and trains; returns the exit code."""
    parser = Parser(prog="jobs/train.py", description="Train a workload, here or on Ray workers.")
    parser.add_argument("workload", nargs="?", help="what to train; --list shows the workloads")
    parser.add_argument("--list", action="store_true", help="show the workloads and exit")
    add_run_flags(parser)
    arguments = parser.parse_args()
    if arguments.list:
        for workload in WORKLOADS.values():
            print(f"{workload.name:30} {workload.description}")
        return 0
    if arguments.workload is None:
        parser.error("expected a workload, received none; for example `jobs/train.py digits`")

    def command() -> int:
        workload = find(arguments.workload)
        config = load_config(given_values(arguments), defaults=workload.defaults, config_file=arguments.config)
        return run.train(config, workload, console=Console(file=sys.stdout))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
