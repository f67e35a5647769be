"""The directory that predictions of many files are written to, here or on an object store, and what is in it.

Each file carries a record of the input and the model that it comes from in its own metadata, so that a file which is
there is whole, and nothing else has to be kept beside it.
"""

import contextlib
import csv
import dataclasses
import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from annlib.artifacts import RunDirectory, replacing
from annlib.errors import StorageError
from annlib.loading import find_model_file
from annlib.storage import Remote, describe, insist, is_remote

_RECORD_KEY = b"annlib.predicted"
# What a Parquet file begins and ends with.
_MAGIC = b"PAR1"
# Readers of data sets pass over names that begin so: predictions and rows without one are not mixed up.
REJECTED = "_rejected"


@dataclasses.dataclass(frozen=True)
class Record:
    """What a file of predictions comes from.

    Args:
        model: `model_version` of the run.
        source: version of the input file.
        num_rows: rows with a prediction.
        num_rejected: rows that were set aside.
        root: the directory that all input was in; empty in files of older versions.
    """

    model: str
    source: str
    num_rows: int = 0
    num_rejected: int = 0
    root: str = ""

    def to_metadata(self) -> dict[bytes, bytes]:
        """Returns what a Parquet file keeps of it."""
        return {_RECORD_KEY: json.dumps(dataclasses.asdict(self)).encode()}


def model_version(run: RunDirectory) -> str:
    """Returns a checksum of the model and its signature.

    Raises:
        StorageError: one of them is missing or cannot be read.
    """
    digest = hashlib.sha256()
    for path in (find_model_file(run.path), run.signature):
        try:
            digest.update(path.read_bytes())
        except OSError as error:
            raise StorageError(
                f"{path} cannot be read: expected a file of a finished run, received {error.strerror}. Give a run "
                "that `jobs/train.py` finished."
            ) from None
    return digest.hexdigest()


class Output:
    """A directory of predictions.

    Args:
        location: path or URI, as `annlib.storage.check_storage` returns it.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._remote = Remote(location) if is_remote(location) else None

    def create(self) -> None:
        """Makes the directory, and checks that it can be written.

        Raises:
            StorageError: it cannot.
        """
        if self._remote is not None:
            self._remote.probe()
            return
        try:
            Path(self.location).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.location):
                pass
        except OSError as error:
            raise StorageError(
                f"{self.location} cannot be written: expected a directory for the predictions, received "
                f"{_reason(error)}. Give another -o, or its permissions or space."
            ) from None

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Gives a path to write to, which then becomes `name`, whole; nothing is left after an error.

        Raises:
            StorageError: it cannot be written.
        """
        remote = self._remote
        try:
            if remote is None:
                path = Path(self.location, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(path) as temporary:
                    yield temporary
                # Of processes that were killed, or took too long and were given up.
                for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp*"):
                    left.unlink(missing_ok=True)
            else:
                with tempfile.TemporaryDirectory(prefix="annlib-") as directory:
                    temporary = Path(directory, "file")
                    yield temporary
                    insist(lambda: remote.upload(temporary, name))
        except OSError as error:
            raise StorageError(
                f"{self.location}/{name} cannot be written: expected a writable directory with space, received "
                f"{_reason(error)}. Mend it, then start the same command again: finished files are kept."
            ) from None

    def write_rejected(self, name: str, source: str, rejected: Iterable[tuple[int, str]]) -> None:
        """Writes the rows of `source` that were set aside, sorted by their number; removes the file without any."""
        place = f"{REJECTED}/{name.removesuffix('.parquet')}.csv"
        lines = sorted(rejected)
        if not lines:
            self._delete(place)
            return
        with self.writing(place) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("file", "row", "reason"))
            writer.writerows((source, row, reason) for row, reason in lines)

    def remove(self, name: str) -> None:
        """Removes the predictions of a file, and what was set aside of it, where they are there."""
        self._delete(name)
        self.write_rejected(name, "", ())

    def names(self) -> set[str]:
        """Returns the names of all files.

        Raises:
            StorageError: the directory cannot be read.
        """
        try:
            if self._remote is not None:
                return set(self._remote.list())
            root = Path(self.location)
            return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        except OSError as error:
            raise StorageError(
                f"{self.location} cannot be read: expected the directory for the predictions, received "
                f"{_reason(error)}. Correct -o, or endpoint and credentials in the environment."
            ) from None

    def record(self, name: str) -> Record | None:
        """Returns what a file comes from; None where it is none of these files."""
        try:
            with self._open(name) as file:
                metadata: dict[bytes, bytes] | None = pyarrow.parquet.read_metadata(file).metadata
            return Record(**json.loads((metadata or {})[_RECORD_KEY]))
        except (OSError, pa.ArrowException, ValueError, TypeError, KeyError):
            return None

    def is_cut_off(self, name: str) -> bool:
        """Tells whether a file is empty, or begins as Parquet files do and ends otherwise: an upload was broken off."""
        try:
            with self._open(name) as file:
                start = file.read(len(_MAGIC))
                size = file.seek(0, os.SEEK_END)
                file.seek(max(len(start), size - len(_MAGIC)))
                return _MAGIC.startswith(start) and file.read() != _MAGIC
        except OSError:
            return False

    def _open(self, name: str) -> Any:
        return Path(self.location, name).open("rb") if self._remote is None else self._remote.open(name)

    def _delete(self, name: str) -> None:
        try:
            if self._remote is not None:
                self._remote.delete(name)
            else:
                Path(self.location, name).unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.location}/{name} cannot be removed: expected a writable directory, received "
                f"{_reason(error)}. Mend it, then start the same command again: finished files are kept."
            ) from None


def _reason(error: OSError) -> str:
    return error.strerror or describe(error)
