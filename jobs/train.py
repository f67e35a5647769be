"""Trains a workload: `python jobs/train.py fashion-mnist`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib.command import run_command
from annlib.workload_command import parse_workload, read_config


def main() -> int:
    """Parses the command line and trains; returns the exit code."""

    def command() -> int:
        description = "Train a workload, here or on Ray workers."
        arguments, workload = parse_workload(sys.argv[1:], prog="jobs/train.py", description=description)
        config = read_config(arguments, workload)
        # Here, for the help is printed without them.
        from annlib import run
        from annlib.training.driver import DriverConsole

        return run.train(config, workload, console=DriverConsole(file=sys.stdout))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
