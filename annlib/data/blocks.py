"""Samples on disk that need not fit into memory: raw arrays, read a range of rows at a time."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt

from annlib.artifacts import write_atomically
from annlib.errors import DataError, StorageError

Array = npt.NDArray[Any]
# Written last, so that it is there only with whole arrays.
MANIFEST = "blocks.json"


@dataclass(frozen=True)
class _Stored:
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Arrays of the same number of rows on disk: x, y and perhaps weights.

    Args:
        directory: where `BlockWriter` wrote them.
        num_rows: rows of each array.
        arrays: type and shape of a row of each, in their order.
        fingerprint: SHA-256, hexadecimal, over types, shapes and bytes of all arrays.
    """

    directory: Path
    num_rows: int
    arrays: tuple[_Stored, ...]
    fingerprint: str

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Opens what a `BlockWriter` has finished.

        Raises:
            StorageError: it is not there, not finished, or truncated.
        """
        try:
            manifest = json.loads((directory / MANIFEST).read_text())
            arrays = tuple(_Stored(each["dtype"], tuple(each["shape"])) for each in manifest["arrays"])
            blocks = cls(
                directory=directory,
                num_rows=manifest["num_rows"],
                arrays=arrays,
                fingerprint=manifest["fingerprint"],
            )
            sizes = [os.stat(blocks._path(index)).st_size for index in range(len(arrays))]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{directory} cannot be read: expected prepared samples, received {error}. Remove it, then start the "
                "same command again: it is made anew."
            ) from None
        expected = [blocks.num_rows * each.row_bytes for each in arrays]
        if sizes != expected:
            raise StorageError(
                f"{directory} is damaged: expected arrays of {expected} bytes, received {sizes}. Remove it, then start "
                "the same command again: it is made anew."
            )
        return blocks

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all arrays."""
        return sum(each.row_bytes for each in self.arrays)

    def __len__(self) -> int:
        return self.num_rows

    def read(self, ranges: Sequence[tuple[int, int]]) -> tuple[Array, ...]:
        """Reads rows into memory, and nothing else: a mapped file would count as memory of the process.

        Args:
            ranges: half-open ranges of rows within 0..num_rows, one after the other in what is returned.

        Returns:
            Each array's rows, shape (n, ...).

        Raises:
            StorageError: they cannot be read.
        """
        num_rows = sum(stop - start for start, stop in ranges)
        return tuple(self._read(index, ranges, num_rows) for index in range(len(self.arrays)))

    def _read(self, index: int, ranges: Sequence[tuple[int, int]], num_rows: int) -> Array:
        stored = self.arrays[index]
        rows = np.empty((num_rows, *stored.shape), stored.dtype)
        path = self._path(index)
        done = 0
        try:
            with path.open("rb", buffering=0) as file:
                for start, stop in ranges:
                    part = rows[done : done + stop - start]
                    file.seek(start * stored.row_bytes)
                    _fill(file, part)
                    done += stop - start
        except OSError as error:
            raise StorageError(
                f"{path} cannot be read: expected {num_rows:,} rows, received {error.strerror or error}. Mend it, then "
                "start the same command again."
            ) from None
        return rows

    def _path(self, index: int) -> Path:
        return _path(self.directory, index)


class BlockWriter:
    """Writes `Blocks`, of which nothing is to be seen until all rows are there.

    Args:
        directory: an empty or new directory.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: list[IO[bytes]] = []
        self._arrays: tuple[_Stored, ...] = ()
        self._digests: list[Any] = []
        self._num_rows = 0

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / MANIFEST).unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    def append(self, *rows: npt.ArrayLike) -> None:
        """Adds rows; the arrays have the same number of them, and the types and shapes of the first ones.

        Raises:
            DataError: they have not, or are no numbers.
        """
        arrays = [np.asarray(array) for array in rows]
        if any(array.dtype.kind not in "biuf" or array.ndim == 0 for array in arrays):
            raise DataError(
                "rows are not numeric: expected arrays of numbers with a row for each sample, received "
                f"{', '.join(f'{array.dtype} of shape {array.shape}' for array in arrays)}. Convert them first."
            )
        found = tuple(_Stored(array.dtype.str, tuple(array.shape[1:])) for array in arrays)
        if not self._files:
            self._arrays = found
            self._files = [_path(self._directory, index).open("wb") for index in range(len(arrays))]
            self._digests = [hashlib.sha256(str(each).encode()) for each in found]
        if found != self._arrays or len({len(array) for array in arrays}) > 1:
            raise DataError(
                f"rows do not fit those before: expected {self._arrays} and one length, received {found} with "
                f"{[len(array) for array in arrays]} rows. Convert them first."
            )
        for file, digest, array in zip(self._files, self._digests, arrays, strict=True):
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            file.write(content)
            digest.update(content)
        self._num_rows += len(arrays[0])

    def finish(self) -> Blocks:
        """Returns the blocks.

        Raises:
            DataError: there are no rows.
        """
        if not self._num_rows:
            raise DataError("there are no samples: expected 1 row or more, received none. Give other data.")
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        manifest = {
            "num_rows": self._num_rows,
            "arrays": [dataclasses.asdict(each) for each in self._arrays],
            "fingerprint": hashlib.sha256("".join(each.hexdigest() for each in self._digests).encode()).hexdigest(),
        }
        write_atomically(self._directory / MANIFEST, json.dumps(manifest).encode())
        return Blocks.open(self._directory)


def _path(directory: Path, index: int) -> Path:
    return directory / f"array-{index}.bin"


def _fill(file: Any, rows: Array) -> None:
    view = rows.reshape(-1).view(np.uint8).data
    while view:
        num_bytes = file.readinto(view)
        if not num_bytes:
            raise OSError("the end of the file")
        view = view[num_bytes:]
