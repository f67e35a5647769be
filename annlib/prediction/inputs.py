"""The files to predict: a glob or a directory, here or on an object store."""

import fnmatch
import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from annlib.errors import ConfigError, DataError
from annlib.prediction.chunks import ENDINGS
from annlib.storage import Remote, check_storage, is_remote, unreadable

_MAGIC = ("*", "?", "[")


@dataclass(frozen=True, kw_only=True)
class InputFile:
    """A file to predict.

    Args:
        root: the directory that all input is in, a path or a URI.
        name: the file's path from there.
        num_bytes: its size.
        version: tells its content from an earlier one; a copy of a file is another version.
    """

    root: str
    name: str
    num_bytes: int
    version: str

    @property
    def location(self) -> str:
        """Path or URI."""
        return f"{self.root}/{self.name}"

    @property
    def output_name(self) -> str:
        """Path of its predictions from the directory of all of them."""
        return str(PurePosixPath(self.name).with_suffix(".parquet"))


def is_many(location: str) -> bool:
    """Tells whether a location may stand for several files: a URI, a glob, or a directory with tables or arrays."""
    if "://" in location:
        return True
    if os.path.isdir(location):
        return any(name.endswith(ENDINGS) for _, _, names in os.walk(location) for name in names)
    return not os.path.exists(location) and _has_magic(location)


def find_inputs(location: str, output: str) -> list[InputFile]:
    """Finds files to predict, the largest first: those finish last, and shall not start last.

    Args:
        location: a file, a directory, or a glob in which `*`, `?` and `[...]` stand for parts of a name and `**` for
            any directories; directories give all `.csv`, `.parquet` and `.npy` files below them. Names that begin
            with `.` or `_` are left out, as readers of data sets do.
        output: the directory of predictions; what is in it is no input.

    Raises:
        ConfigError: the URI is wrong, or the input is in the directory of the output, or two files would get the same
            output, or one the directory of another.
        DataError: there are no such files.
        StorageError: the object store does not answer.
    """
    place = check_storage(location, name="the input")
    root, pattern = _split(place)
    real_output = _real(output)
    if f"{_real(root)}/".startswith(f"{real_output}/"):
        raise ConfigError(
            f"the input {place} is in the directory of the output: expected another one, received {output}. Give "
            "another -o."
        )
    found = _find_remote(root, pattern) if is_remote(root) else _find_local(root, pattern)
    files = [
        InputFile(root=root, name=name, num_bytes=num_bytes, version=version)
        for name, (num_bytes, version) in found.items()
        if not _is_hidden(name)
    ]
    files = [file for file in files if not _real(file.location).startswith(f"{real_output}/")]
    if not files:
        raise DataError(
            f"{place} matches no files: expected {', '.join(ENDINGS)} files, received none. Correct the path or glob."
        )
    _check_output_names(files)
    return sorted(files, key=lambda file: (-file.num_bytes, file.name))


def without_input(root: str, output_names: list[str]) -> list[str]:
    """Returns those names of outputs, or of what may be some, that no file below `root` would get now.

    Raises:
        StorageError: the object store does not answer.
    """
    names = [name for name in output_names if not _is_hidden(name)]
    if is_remote(root):
        there = set(_find_remote(root, "")) if names else set()
        return [name for name in names if there.isdisjoint(_input_names(name))]
    return [name for name in names if not any(os.path.exists(f"{root}/{each}") for each in _input_names(name))]


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) for part in name.split("/"))


def _input_names(output_name: str) -> list[str]:
    return [f"{output_name.removesuffix('.parquet')}{ending}" for ending in ENDINGS]


def _real(location: str) -> str:
    """Returns a location without the links and `..` by which a directory may have several names."""
    return location if is_remote(location) else os.path.realpath(location or "/")


def _split(place: str) -> tuple[str, str]:
    """Returns the directory before the first part with a pattern in it, and what follows.

    Directories key=value just before it follow too, so that outputs keep them, whatever part of a data set is given.
    """
    scheme, _, path = place.rpartition("://")
    parts = path.split("/")
    is_directory = not path.endswith(ENDINGS) if is_remote(place) else os.path.isdir(place)
    # A file without a pattern is the pattern itself, a directory has none.
    last = len(parts) if is_directory else len(parts) - 1
    first = next((index for index, part in enumerate(parts) if _has_magic(part)), last)
    if is_directory and not is_remote(place):
        first = last
    while first > 1 and "=" in parts[first - 1]:
        first -= 1
    prefix = f"{scheme}://" if scheme else ""
    return f"{prefix}{'/'.join(parts[:first])}", "/".join(parts[first:])


def _has_magic(text: str) -> bool:
    return any(sign in text for sign in _MAGIC)


def _find_local(root: str, pattern: str) -> dict[str, tuple[int, str]]:
    found: dict[str, tuple[int, str]] = {}
    start = f"{glob.escape(root)}/{pattern}" if pattern else glob.escape(root)
    for match in map(Path, glob.iglob(start, recursive=True)):
        paths: Iterable[Path] = [match]
        if match.is_dir():
            paths = (path for path in match.rglob("*") if path.suffix in ENDINGS)
        for path in paths:
            if path.is_file():
                status = path.stat()
                version = f"{status.st_size} bytes of {status.st_mtime_ns}"
                found[path.relative_to(root).as_posix()] = (status.st_size, version)
    return found


def _find_remote(root: str, pattern: str) -> dict[str, tuple[int, str]]:
    try:
        versions = Remote(root).versions()
    except OSError as error:
        raise unreadable(root, error) from None
    return {name: version for name, version in versions.items() if _is_meant(name.split("/"), pattern)}


def _is_meant(parts: list[str], pattern: str) -> bool:
    """Tells whether a path matches a pattern, or is a table or an array in a directory that does."""
    wanted = pattern.split("/") if pattern else []
    if wanted and _matches(parts, wanted):
        return True
    return parts[-1].endswith(ENDINGS) and any(_matches(parts[:end], wanted) for end in range(len(parts)))


def _matches(parts: list[str], pattern: list[str]) -> bool:
    if not pattern or not parts:
        return not parts and all(part == "**" for part in pattern)
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or _matches(parts[1:], pattern)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _check_output_names(files: list[InputFile]) -> None:
    by_output: dict[str, str] = {}
    for file in files:
        other = by_output.setdefault(file.output_name, file.name)
        if other != file.name:
            raise ConfigError(
                f"{file.root} has two files for one output: expected one file for each {file.output_name}, received "
                f"{other} and {file.name}. Rename one, or give a glob of one kind."
            )
    # The rows of a file that are set aside get a name, too.
    taken = by_output | {f"{output.removesuffix('.parquet')}.csv": name for output, name in by_output.items()}
    for file in files:
        for directory in PurePosixPath(file.output_name).parents:
            if holder := taken.get(str(directory)):
                raise ConfigError(
                    f"{file.root} has a file and a directory for one output: expected different names, received "
                    f"{holder} and {file.name}. Rename one, or give a glob of one of them."
                )
