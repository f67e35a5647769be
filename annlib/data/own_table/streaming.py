"""A table that need not fit into memory as a data set: prepared once in two passes, then read from disk.

The first pass finds the target's kind, the columns' statistics over the training rows and the splits; the second one
encodes the rows. What is prepared is kept in the cache, for workers, later starts and `jobs/evaluate.py`.
"""

import contextlib
import fcntl
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from rich.filesize import decimal

from annlib.artifacts import write_atomically
from annlib.data.blocks import Blocks, BlockWriter
from annlib.data.cache import cache_directory
from annlib.data.dataset import Dataset, StreamedSplit
from annlib.data.encoding import encode
from annlib.data.own_table.checks import check_weights, used_names
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import find_files, find_table
from annlib.data.own_table.loading import table_dataset
from annlib.data.own_table.scanning import TableScan
from annlib.data.own_table.splitting import SPLITS, check_training_classes, count_classes
from annlib.data.own_table.survey import Prepared, Survey, split_chunks
from annlib.errors import DataError, StorageError

# Changes with what is written, so that older files are not read.
_FORMAT = 3
_MANIFEST = "table.json"
# Of a split, for pictures and figures.
SAMPLE_ROWS = 20_000
_SAMPLE_RANGES = 256


def load_streamed(config: TableConfig) -> Dataset:
    """Prepares a table on disk, where that has not been done, and returns it as a data set.

    Args:
        config: which file, which columns, which split.

    Returns:
        The data set of `load_table`, whose splits are `StreamedSplit`; a random split draws each row's one by itself.

    Raises:
        DataError: the table cannot be trained on; what, where, how many rows, examples.
        StorageError: the cache cannot be written or read.
    """
    directory = _directory(config)
    try:
        with _lock(directory):
            if not (directory / _MANIFEST).exists():
                _prepare(config, directory)
    except OSError as error:
        raise StorageError(
            f"{directory} cannot be written: expected room for the prepared rows, received {error.strerror or error}. "
            "Make room, or set ANNLIB_CACHE_DIR."
        ) from None
    return _open(config, directory)


def _directory(config: TableConfig) -> Path:
    """Returns where the prepared table is: another one when files or what decides about the rows change."""
    files, paths = find_files(config.data)
    digest = hashlib.sha256(json.dumps([_FORMAT, config.model_dump(mode="json", include=_DECIDING)]).encode())
    for info in files.get_file_info(paths):
        digest.update(f"{info.path} {info.size} {info.mtime_ns};".encode())
    return cache_directory() / "tables" / digest.hexdigest()[:32]


_DECIDING = {
    "data",
    "target",
    "features",
    "drop",
    "weight",
    "split",
    "validation_fraction",
    "test_fraction",
    "split_seed",
    "task",
}


@contextlib.contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """Lets one process of a machine prepare, while others wait for it."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(config: TableConfig, directory: Path) -> None:
    # Of processes that were killed: nobody else prepares this table now.
    for left in directory.parent.glob(f".{directory.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    temporary = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    try:
        _prepare_in(temporary, config)
        if _directory(config) != directory:
            raise _changed(config, "others")
        try:
            temporary.rename(directory)
        except OSError:
            # A process on another machine that shares the directory was faster.
            if not (directory / _MANIFEST).exists():
                raise
    except Exception as error:
        # Whatever is wrong with rows that change while they are read, or with columns that are gone.
        if isinstance(error, _ChangedFiles) or _directory(config) == directory:
            raise
        raise _changed(config, "others") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _prepare_in(directory: Path, config: TableConfig) -> None:
    found = find_table(config.data)
    scan = TableScan.open(found, used_names(found.names, config))
    survey = Survey(scan, config)
    prepared = survey.result()
    sizes = _write_rows(scan, config, survey, prepared, directory)
    if sizes != survey.sizes.tolist() or sum(sizes) != scan.num_rows:
        raise _changed(config, f"{scan.num_rows:,} rows, then {sum(sizes):,}")
    write_atomically(directory / _MANIFEST, TypeAdapter(Prepared).dump_json(prepared))


class _ChangedFiles(DataError):
    """The files are not those any more that were read first."""


def _changed(config: TableConfig, received: str) -> _ChangedFiles:
    return _ChangedFiles(
        f"{config.data} changed while it was read: expected the same files from the first row to the last, twice, "
        f"received {received}. Start the same command again when nothing writes to them."
    )


def _write_rows(scan: TableScan, config: TableConfig, survey: Survey, prepared: Prepared, directory: Path) -> list[int]:
    """The second pass: writes the encoded rows of each split; returns how many."""
    target = survey.target
    means = survey.weight_sums / survey.sizes
    classes: Any = 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(BlockWriter(directory / split)) for split in SPLITS]
        for _, chunk, splits in split_chunks(scan, config):
            arrays: list[npt.NDArray[Any]] = [encode(prepared.columns, chunk), target.encode(chunk)]
            if target.classes is not None and (arrays[1] < 0).any():
                raise _changed(config, f"a class of target {target.names[0]!r} that was not there before")
            if config.weight is not None:
                weights = check_weights(chunk[config.weight], config.weight) / means[splits]
                arrays.append(weights.astype(np.float32))
            classes = classes + count_classes(target, arrays[1][splits == 0])
            for number, writer in enumerate(writers):
                writer.append(*(array[splits == number] for array in arrays))
        check_training_classes(target, classes, int(survey.sizes[0]), config.split)
        return [len(writer.finish()) for writer in writers]


def _open(config: TableConfig, directory: Path) -> Dataset:
    try:
        prepared = TypeAdapter(Prepared).validate_json((directory / _MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise StorageError(
            f"{directory} is damaged: expected a prepared table, received {type(error).__name__}. Remove it, then "
            "start the same command again: it is made anew."
        ) from None
    blocks = [Blocks.open(directory / split) for split in SPLITS]
    train, validation, test = (_split(each, prepared.y_moments) for each in blocks)
    num_rows, num_bytes = sum(map(len, blocks)), sum(len(each) * each.row_bytes for each in blocks)
    note = (
        f"streamed: {num_rows:,} rows, {decimal(num_bytes)} in {directory}, which may be removed after the run; "
        "pictures are of a sample"
    )
    return table_dataset(
        config,
        (train, validation, test),
        columns=prepared.columns,
        task=prepared.task,
        class_names=prepared.class_names,
        notes=(*prepared.notes, note),
    )


def _split(blocks: Blocks, y_moments: tuple[float, float] | None) -> StreamedSplit:
    x, y, *weight = blocks.read(_spread_ranges(len(blocks)))
    return StreamedSplit(x=x, y=y, weight=weight[0] if weight else None, blocks=blocks, y_moments=y_moments)


def _spread_ranges(num_rows: int) -> list[tuple[int, int]]:
    """Returns ranges of rows all over a split, `SAMPLE_ROWS` in all."""
    if num_rows <= SAMPLE_ROWS:
        return [(0, num_rows)]
    starts = np.linspace(0, num_rows, _SAMPLE_RANGES, endpoint=False).astype(np.int64).tolist()
    return [(start, start + SAMPLE_ROWS // _SAMPLE_RANGES) for start in starts]
