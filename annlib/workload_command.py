"""The command line of what trains a workload, whose flags depend on it. Apart, for other commands load no workloads."""

import argparse
from collections.abc import Sequence

from annlib.command import Parser, add_run_flags
from annlib.config import RunConfig
from annlib.training.workload import Workload
from annlib.workloads import WORKLOADS, find


def parse_workload(
    arguments: Sequence[str], *, prog: str, description: str
) -> tuple[argparse.Namespace, Workload | None]:
    """Parses a command line of a workload, its flags and `--list`.

    The flags depend on the workload, which may stand behind them: a first look finds it, a second one is strict.

    Returns:
        The values, and the workload; None with `--list`.

    Raises:
        ConfigError: the workload is unknown.
    """
    first = Parser(prog=prog, add_help=False, conflict_handler="resolve")
    _add_workload(first)
    first.add_argument("-h", "--help", action="store_true")
    for config_class in {workload.config_class for workload in WORKLOADS.values()}:
        add_run_flags(first, config_class)
    found = first.parse_known_args(arguments)[0]
    # Before the strict look, what follows a flag of the user's own may be taken for a workload.
    name = found.named or found.workload
    workload = None if name is None else find(name)
    parser = Parser(prog=prog, description=description)
    _add_workload(parser)
    add_run_flags(parser, RunConfig if workload is None else workload.config_class)
    values = parser.parse_args(arguments)
    if values.workload is not None and values.named is not None:
        parser.error(f"expected one workload, received {values.workload} and {values.named}")
    values.workload = name
    if workload is None and not values.list:
        parser.error("expected a workload, received none; for example `jobs/train.py digits`")
    return values, None if values.list else workload


def _add_workload(parser: argparse.ArgumentParser) -> None:
    help = "what to train: a name of --list, or path/to/file.py:name or package.module:name of your own"
    parser.add_argument("workload", nargs="?", help=help)
    parser.add_argument("--workload", dest="named", metavar="WORKLOAD", help="the same as a flag")
    parser.add_argument("--list", action="store_true", help="show the workloads and exit")
