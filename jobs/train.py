"""Trains a workload: `python jobs/train.py fashion-mnist`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib.command import given_values, run_command
from annlib.config import load_config
from annlib.workload_command import parse_workload


def main() -> int:
    """Parses the command line and trains; returns the exit code."""

    def command() -> int:
        description = "Train a workload, here or on Ray workers."
        arguments, workload = parse_workload(sys.argv[1:], prog="jobs/train.py", description=description)
        config_class = workload.config_class
        config = load_config(
            given_values(arguments, config_class),
            defaults=workload.defaults,
            config_file=arguments.config,
            config_class=config_class,
        )
        # Here, for the help is printed without them.
        from rich.console import Console

        from annlib import run

        return run.train(config, workload, console=Console(file=sys.stdout))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
