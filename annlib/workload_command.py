"""The command line of what trains a workload, whose flags depend on it. Apart, for other commands load no workloads."""

import argparse
from collections.abc import Callable, Collection, Sequence

from annlib.command import Parser, add_run_flags, given_values
from annlib.config import RunConfig, load_config, read_yaml
from annlib.training.workload import Workload
from annlib.workloads import WORKLOADS, find


def parse_workload(
    arguments: Sequence[str],
    *,
    prog: str,
    description: str,
    run_flags: Collection[str] | None = None,
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> tuple[argparse.Namespace, Workload]:
    """Parses a command line of a workload and its flags; `--list` shows the workloads and ends the process.

    The flags depend on the workload, which may stand behind them: a first look finds it, a second one is strict.

    Args:
        arguments: the words of the command line.
        prog: what the help calls the command.
        description: what it does.
        run_flags: the fields of `RunConfig` that are flags, all of them when None; those that a workload alone has
            always are.
        add_flags: adds those of the command itself.

    Returns:
        The values, and the workload.

    Raises:
        ConfigError: the workload is unknown.
    """
    first = Parser(prog=prog, add_help=False, conflict_handler="resolve")
    _add_workload(first)
    add_flags(first)
    first.add_argument("-h", "--help", action="store_true")
    for config_class in {workload.config_class for workload in WORKLOADS.values()}:
        add_run_flags(first, config_class, names=_flags_of(config_class, run_flags))
    found = first.parse_known_args(arguments)[0]
    # Before the strict look, what follows a flag of the user's own may be taken for a workload.
    name = found.named or found.workload or _workload_of(found.config)
    workload = None if name is None else find(name)
    parser = Parser(prog=prog, description=description)
    _add_workload(parser)
    add_flags(parser)
    config_class = RunConfig if workload is None else workload.config_class
    add_run_flags(parser, config_class, names=_flags_of(config_class, run_flags))
    values = parser.parse_args(arguments)
    if values.list:
        for each in WORKLOADS.values():
            print(f"{each.name:30} {each.description}")  # noqa: T201
        parser.exit()
    if values.workload is not None and values.named is not None:
        parser.error(f"expected one workload, received {values.workload} and {values.named}")
    values.workload = name
    if workload is None:
        parser.error(f"expected a workload, received none; for example `{prog} digits`")
    return values, workload


def read_config(values: argparse.Namespace, workload: Workload) -> RunConfig:
    """Returns the configuration of a parsed command line; raises what `load_config` raises."""
    config_class = workload.config_class
    return load_config(
        given_values(values, config_class),
        defaults=workload.defaults,
        config_file=values.config,
        config_class=config_class,
    )


def _flags_of(config_class: type[RunConfig], run_flags: Collection[str] | None) -> set[str] | None:
    if run_flags is None:
        return None
    return {*run_flags, *(name for name in config_class.model_fields if name not in RunConfig.model_fields)}


def _workload_of(config_file: str | None) -> str | None:
    """Returns the workload that a YAML file names."""
    name = None if config_file is None else read_yaml(config_file, flag="--config").get("workload")
    return None if name is None else str(name)


def _add_workload(parser: argparse.ArgumentParser) -> None:
    help = "what to train: a name of --list, or path/to/file.py:name or package.module:name of your own"
    help += " (default: that of --config)"
    parser.add_argument("workload", nargs="?", help=help)
    parser.add_argument("--workload", dest="named", metavar="WORKLOAD", help="the same as a flag")
    parser.add_argument("--list", action="store_true", help="show the workloads and exit")
