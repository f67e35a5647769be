"""What the entry points in `jobs/` share: errors of one line, and flags made from `RunConfig`."""

import argparse
import sys
from collections.abc import Callable, Collection
from typing import Any, NoReturn

from annlib.config import RunConfig
from annlib.errors import AnnlibError
from annlib.garbage import collect_seldom


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
    parser.add_argument("--config", metavar="FILE", help="YAML file with values by field name: a path or a URI")


def whole_number(text: str, *, minimum: int = 0) -> int:
    """Parses a whole number of `minimum` or more, for `type=`."""
    if not text.isascii() or not text.isdigit() or int(text) < minimum:
        raise argparse.ArgumentTypeError(f"expected a whole number of {minimum} or more, received {text!r}")
    return int(text)


def positive_integer(text: str) -> int:
    """Parses a whole number of 1 or more, for `type=`."""
    return whole_number(text, minimum=1)


def given_values(namespace: argparse.Namespace, config_class: type[RunConfig] = RunConfig) -> dict[str, Any]:
    """Returns the fields of a configuration that were given on the command line."""
    values = vars(namespace)
    return {name: values[name] for name in config_class.model_fields if values.get(name) is not None}


def run_command(command: Callable[[], int]) -> int:
    """Runs an entry point; an `AnnlibError` becomes one line and its exit code, Ctrl-C becomes 130."""
    collect_seldom()
    try:
        return command()
    except AnnlibError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return 130
