"""What the entry points in `jobs/` share: errors of one line, and flags made from `RunConfig`."""

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from annlib.config import RunConfig
from annlib.errors import AnnlibError
from annlib.training.workload import Workload
from annlib.workloads import WORKLOADS, find


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line on the error stream and exit code 2."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with code 2."""
        self.exit(2, f"error: {message}. `--help` lists what there is.\n")


def add_run_flags(
    parser: argparse.ArgumentParser,
    config_class: type[RunConfig] = RunConfig,
    *,
    names: Collection[str] | None = None,
) -> None:
    """Adds `--config`, and a flag for each field of a configuration or for those named.

    The values are checked by `load_config`.
    """
    for name, field in config_class.model_fields.items():
        if name == "workload" or (names is not None and name not in names):
            continue
        flag = "--" + name.replace("_", "-")
        description = (field.description or "").replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action="store_true", default=None, help=description)
        else:
            default = field.default
            if field.is_required():
                default = "the workload's" if name in RunConfig.model_fields else "none, it is required"
            default = ",".join(str(value) for value in default) if isinstance(default, tuple) else default
            shown = "" if default in ("", None) else f" (default: {default})"
            parser.add_argument(flag, metavar=name.upper(), help=f"{description}{shown}")
    parser.add_argument("--config", metavar="FILE", type=Path, help="YAML file with values by field name")


def whole_number(text: str) -> int:
    """Parses a whole number of 0 or more, for `type=`."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a whole number of 0 or more, received {text!r}")
    return int(text)


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


def positive_integer(text: str) -> int:
    """Parses a whole number of 1 or more, for `type=`."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of 1 or more, received {text!r}")
    return int(text)


def given_values(namespace: argparse.Namespace, config_class: type[RunConfig] = RunConfig) -> dict[str, Any]:
    """Returns the fields of a configuration that were given on the command line."""
    values = vars(namespace)
    return {name: values[name] for name in config_class.model_fields if values.get(name) is not None}


def run_command(command: Callable[[], int]) -> int:
    """Runs an entry point; an `AnnlibError` becomes one line and its exit code, Ctrl-C becomes 130."""
    try:
        return command()
    except AnnlibError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130
