"""Searches for the best hyperparameters of a workload: `python jobs/tune.py fashion-mnist --num-trials 20`."""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from annlib.command import positive_integer, run_command
from annlib.tuning.definition import TRIALS_PER_PROCESS, define
from annlib.workload_command import parse_workload, read_config

# The others that a configuration has come from --config.
RUN_FLAGS = (
    "epochs",
    "seed",
    "name",
    "storage",
    "data_dir",
    "use_gpu",
    "cpus_per_worker",
    "monitor_mode",
    "max_failures",
    "worker_timeout_s",
)


def add_search_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a search."""
    parser.add_argument("--num-trials", type=positive_integer, default=20, help="trials in all (default: 20)")
    parser.add_argument(
        "--space", metavar="FILE", help="YAML file of what to vary: a path or a URI (default: the workload's)"
    )
    parser.add_argument(
        "--metric",
        help="what to compare, on the validation split (default: monitor of --config, else val_accuracy or val_loss)",
    )
    parser.add_argument(
        "--concurrency", type=positive_integer, help="trials at a time (default: as many as there is room)"
    )
    parser.add_argument(
        "--trials-per-process",
        type=positive_integer,
        default=TRIALS_PER_PROCESS,
        help=f"trials that a process does before a new one takes its place (default: {TRIALS_PER_PROCESS})",
    )


def main() -> int:
    """Parses the command line and searches; returns the exit code."""

    def command() -> int:
        arguments, workload = parse_workload(
            sys.argv[1:],
            prog="jobs/tune.py",
            description="Search for the best hyperparameters of a workload, on Ray Tune.",
            run_flags=RUN_FLAGS,
            add_flags=add_search_flags,
        )
        # A cluster may set it for its runs. A trial has one process.
        os.environ.pop("ANNLIB_NUM_WORKERS", None)
        config = read_config(arguments, workload)
        search = define(
            config,
            workload,
            num_trials=arguments.num_trials,
            space_file=arguments.space,
            metric=arguments.metric,
            monitor_mode=arguments.monitor_mode,
            concurrency=arguments.concurrency,
            trials_per_process=arguments.trials_per_process,
        )
        # Here, for the help is printed without them.
        from annlib.training.driver import DriverConsole
        from annlib.tuning.search import tune

        return tune(search, console=DriverConsole(file=sys.stdout))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
