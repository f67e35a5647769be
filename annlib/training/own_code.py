"""Python code of the user's own: found by file or module, and what fails in it told in one line."""

import contextlib
import dataclasses
import importlib
import importlib.util
import logging
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from annlib.errors import AnnlibError, ConfigError

logger = logging.getLogger(__name__)

# Where a traceback goes through Python itself or an installed package.
_NOT_OWN = ("<", *(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Origin:
    """Where an object of the user's own stands.

    Args:
        reference: `path/to/file.py:name` or `package.module:name`, as the user gave it.
        directory: the driver's working directory. A worker looks into its own first, which Ray fills with the files of
            `--working-dir`, then into this one.
    """

    reference: str
    directory: str

    @property
    def module(self) -> str:
        """The file or module."""
        return self.reference.rpartition(":")[0]

    @property
    def attribute(self) -> str:
        """The name in it."""
        return self.reference.rpartition(":")[2]


def import_module(origin: Origin) -> ModuleType:
    """Imports the file or module of `origin`.

    Files beside it, and modules in the working directory, can be imported from there.

    Raises:
        ConfigError: there is no such file or module, or the import fails; names exception and line.
    """
    if not origin.module or not origin.attribute.isidentifier():
        raise ConfigError(
            f"workload {origin.reference!r} is no reference: expected path/to/file.py:name or package.module:name, "
            f"received {'no name' if origin.module else 'no file or module'}. Correct it."
        )
    directories = list(dict.fromkeys([Path.cwd(), Path(origin.directory)]))
    is_file = origin.module.endswith(".py") or "/" in origin.module
    with errors_of_one_line(origin, "importing it"):
        return _import_file(origin, directories) if is_file else _import_by_name(origin, directories)


def _import_file(origin: Origin, directories: list[Path]) -> ModuleType:
    candidates = [directory / Path(origin.module).expanduser() for directory in directories]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise ConfigError(
            f"workload {origin.reference}: {candidates[0]} does not exist: expected a Python file, received none. "
            "Correct the path; workers on other nodes need it too, by jobs/submit.py --working-dir or a shared disk."
        )
    _add_to_path(path.resolve().parent)
    name = f"annlib_own_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ConfigError(f"workload {origin.reference}: {path} is no Python file: expected .py. Rename it.")
    module = importlib.util.module_from_spec(spec)
    # Classes that the file defines look their module up there.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _import_by_name(origin: Origin, directories: list[Path]) -> ModuleType:
    for directory in directories:
        _add_to_path(directory)
    try:
        return importlib.import_module(origin.module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{origin.module}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(
            f"workload {origin.reference}: there is no module {error.name}: expected one in {directories[0]} or "
            "installed. Correct the name, or give path/to/file.py:name."
        ) from None


def _add_to_path(directory: Path) -> None:
    if str(directory) not in sys.path:
        # Behind all others: a file of the user's must not hide a package.
        sys.path.append(str(directory))


@contextlib.contextmanager
def errors_of_one_line(origin: Origin | None, what: str) -> Iterator[None]:
    """Turns what the user's code raises into a ConfigError with exception, file and line; without `origin`, nothing."""
    try:
        yield
    except AnnlibError:
        raise
    except (Exception, SystemExit) as error:
        if origin is None:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(_NOT_OWN)]
        file, line = own[-1].filename, own[-1].lineno
        if isinstance(error, SyntaxError) and error.filename:
            file, line = error.filename, error.lineno
        # In run.log, where there is one.
        logger.info("%s failed", what, exc_info=error)
        raise ConfigError(
            f"workload {origin.reference}: {what} failed: {type(error).__name__}: {error} ({file}, line {line}). "
            "Correct the code."
        ) from error
