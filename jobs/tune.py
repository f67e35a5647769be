"""Searches for the best hyperparameters of a workload: `python jobs/tune.py fashion-mnist --num-trials 20`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # annlib beside it, installed or not

from rich.console import Console

from annlib.command import Parser, add_run_flags, given_values, positive_integer, run_command
from annlib.config import load_config
from annlib.tuning.definition import TRIALS_PER_PROCESS, define
from annlib.tuning.search import tune
from annlib.workloads import find

# The others that a configuration has come from --config.
RUN_FLAGS = ("epochs", "seed", "name", "storage", "data_dir", "use_gpu", "cpus_per_worker")


def main() -> int:
    """Parses the command line and searches; returns the exit code."""
    parser = Parser(prog="jobs/tune.py", description="Search for the best hyperparameters of a workload, on Ray Tune.")
    parser.add_argument(
        "workload",
        help="what to train: a name of `jobs/train.py --list`, or file.py:name or package.module:name of your own",
    )
    parser.add_argument("--num-trials", type=positive_integer, default=20, help="trials in all (default: 20)")
    parser.add_argument(
        "--space", type=Path, metavar="FILE", help="YAML file of what to vary (default: the workload's)"
    )
    parser.add_argument("--metric", help="what to compare, on the validation split (default: val_accuracy or val_loss)")
    parser.add_argument(
        "--concurrency", type=positive_integer, help="trials at a time (default: as many as there is room)"
    )
    parser.add_argument(
        "--trials-per-process",
        type=positive_integer,
        default=TRIALS_PER_PROCESS,
        help=f"trials that a process does before a new one takes its place (default: {TRIALS_PER_PROCESS})",
    )
    add_run_flags(parser, names=RUN_FLAGS)
    arguments = parser.parse_args()

    def command() -> int:
        workload = find(arguments.workload)
        config = load_config(given_values(arguments), defaults=workload.defaults, config_file=arguments.config)
        search = define(
            config,
            workload,
            num_trials=arguments.num_trials,
            space_file=arguments.space,
            metric=arguments.metric,
            concurrency=arguments.concurrency,
            trials_per_process=arguments.trials_per_process,
        )
        return tune(search, console=Console(file=sys.stdout))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
