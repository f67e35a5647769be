"""Samples of a file of any length, a chunk of rows at a time; rows that the model cannot take are set aside."""

import bisect
import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from annlib.data.columns import Columns
from annlib.data.conversion import WrongValues, check_quotes, is_row_name
from annlib.data.encoding import encode
from annlib.errors import DataError, quoted
from annlib.prediction.columns import check_not_taken
from annlib.prediction.numbers import as_numbers, is_text
from annlib.sample_checks import (
    check_columns,
    check_takes_arrays,
    check_takes_tables,
    column_names,
    csv_names,
    errors_of_raw_columns,
    no_finite_number,
    open_array,
    unreadable,
)
from annlib.signature import Signature

Array = npt.NDArray[Any]

# Rows of a chunk, and of a row group of what is written; fewer where they are wide, so that memory stays bounded.
CHUNK_ROWS = 131_072
CHUNK_BYTES = 64 * 2**20
ENDINGS = (".csv", ".parquet", ".npy")


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunk:
    """Rows that follow each other in a file.

    Args:
        x: the sound ones, shape (n, *input_shape), of the signature's type.
        table: their columns, n rows: `index` for an array, from 0.
        numbers: their numbers in the file, from 1; shape (n,).
        rejected: number and reason of each of the others.
    """

    x: Array
    table: pa.RecordBatch
    numbers: npt.NDArray[np.int64]
    rejected: list[tuple[int, str]] = field(default_factory=list)

    def without(self, is_bad: npt.NDArray[np.bool_], reasons: Sequence[str]) -> "Chunk":
        """Returns the chunk with rows set aside; a reason for each of them."""
        if not is_bad.any():
            return self
        numbers = self.numbers[is_bad].tolist()
        return Chunk(
            x=self.x[~is_bad],
            table=self.table.filter(pa.array(~is_bad)),
            numbers=self.numbers[~is_bad],
            rejected=[*self.rejected, *zip(numbers, reasons, strict=True)],
        )


def read_chunks(path: Path, signature: Signature) -> Iterator[Chunk]:
    """Reads a `.csv`, `.parquet` or `.npy` file as `annlib.samples.read_samples` does, but for bad rows.

    The first chunk comes also where there are no rows, so that its schema is known. Features that are text, as all
    are in a CSV file, become float64; all other columns stay as they are.

    Raises:
        DataError: the file is unreadable, or has other columns, types or shapes than the model takes.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise unreadable(path, "a file", error) from None
    if size == 0:
        raise DataError(f"{path} is empty: expected samples to predict, received 0 bytes. Give another file.")
    if path.suffix == ".npy":
        check_takes_arrays(path, signature)
        yield from _array_chunks(path, signature)
    elif path.suffix in (".csv", ".parquet"):
        check_takes_tables(path, signature)
        yield from _csv_chunks(path, signature) if path.suffix == ".csv" else _parquet_chunks(path, signature)
    else:
        raise DataError(
            f"{path} is of an unknown kind: expected {', '.join(ENDINGS)}, received {path.suffix or 'no ending'}. "
            "Convert it, or leave it out."
        )


def _array_chunks(path: Path, signature: Signature) -> Iterator[Chunk]:
    array = open_array(path, signature, mmap_mode="r")
    num_rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(1, array[:1].nbytes)))
    for start in range(0, max(1, len(array)), num_rows):
        part = array[start : start + num_rows]
        index = np.arange(start, start + len(part))
        with np.errstate(over="ignore"):
            # A copy: what is mapped from a file may be at any address.
            x = part.astype(signature.input_dtype)
        chunk = Chunk(x=x, table=pa.record_batch({"index": index}), numbers=index + 1)
        if signature.input_dtype == "uint8":
            yield _set_bright_aside(chunk, signature)
        else:
            yield _set_not_finite_aside(chunk, signature, part.T)


def _parquet_chunks(path: Path, signature: Signature) -> Iterator[Chunk]:
    try:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        names = [name for name in file.schema_arrow.names if not is_row_name(name)]
        _check_names(path, names, signature)
        kept = pa.schema([file.schema_arrow.field(name) for name in names])
        row_bytes = max(1, sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)))
        num_rows = max(1, min(CHUNK_ROWS, CHUNK_BYTES * file.metadata.num_rows // row_bytes))
        batches = file.iter_batches(num_rows, columns=names, use_threads=False) if file.metadata.num_rows else ()
        yield from _table_chunks(path, signature, kept, batches, [])
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, "a Parquet file", error) from None


def _csv_chunks(path: Path, signature: Signature) -> Iterator[Chunk]:
    ragged: list[tuple[int, str]] = []
    # The last of them, where it may have an open quote.
    swallowed: list[str] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        # The line of names is number 1.
        values = f"expected {row.expected_columns} values, as many as names, received {row.actual_columns}"
        ragged.append((row.number - 1, values))
        # A quote that is not closed makes one short row of all that follows.
        swallowed[:] = [row.text] if row.text.count('"') % 2 and len(row.text.splitlines()) > 1 else []
        return "skip"

    try:
        names = csv_names(path)
        _check_names(path, names, signature)
        text = pa.schema([(name, pa.string()) for name in names])
        batches = pyarrow.csv.open_csv(
            path,
            # Threads would not tell the numbers of rows.
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=CHUNK_BYTES // 4),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
            convert_options=pyarrow.csv.ConvertOptions(column_types=text),
        )
        yield from _table_chunks(path, signature, text, _with_closed_quotes(path, batches, swallowed), ragged)
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        expected = "a CSV file in UTF-8, with values that fit into memory"
        raise unreadable(path, expected, error) from None


def _with_closed_quotes(
    path: Path, batches: Iterable[pa.RecordBatch], swallowed: list[str]
) -> Iterator[pa.RecordBatch]:
    batch = None
    for batch in batches:
        yield batch
    if swallowed:
        raise pa.ArrowInvalid(f'a quote " that is not closed, in {quoted(swallowed[0])}')
    if batch is not None:
        check_quotes(batch, lambda: path.open("rb"))


def _check_names(path: Path, names: list[str], signature: Signature) -> None:
    check_columns(path, names, signature)
    check_not_taken(path, names, signature)


def _table_chunks(
    path: Path, signature: Signature, schema: pa.Schema, batches: Any, ragged: list[tuple[int, str]]
) -> Iterator[Chunk]:
    """Yields a chunk for each batch; `ragged` is filled, before a batch comes, with rows that it leaves out."""
    first, num_told = 1, 0
    for batch in batches:
        # Arrow may have read ahead: what comes after this batch's last row is told with the next one.
        left_out = [number for number, _ in ragged[num_told:]]
        numbers = np.arange(first, first + batch.num_rows + len(left_out))
        inside = [number - first for number in left_out if number - first < len(numbers)]
        numbers = np.delete(numbers, inside)[: batch.num_rows]
        num_before = num_told
        if len(numbers):
            first = int(numbers[-1]) + 1
            num_told += bisect.bisect_left(left_out, first)
        yield _table_chunk(path, batch, numbers, ragged[num_before:num_told], signature)
    if first == 1 or ragged[num_told:]:
        empty = pa.RecordBatch.from_pylist([], schema)
        yield _table_chunk(path, empty, np.empty(0, np.int64), ragged[num_told:], signature)


def _table_chunk(
    path: Path,
    batch: pa.RecordBatch,
    numbers: npt.NDArray[np.int64],
    ragged: list[tuple[int, str]],
    signature: Signature,
) -> Chunk:
    if signature.columns is not None:
        return _encoded_chunk(path, batch, numbers, ragged, signature.columns)
    names = signature.feature_names or ()
    # By columns, which is how both Arrow and the sources have them, then turned at once.
    x = np.empty((len(names), batch.num_rows), signature.input_dtype)
    sources = [batch.column(name) for name in names]
    table = batch
    with np.errstate(over="ignore"):
        for index, (name, source) in enumerate(zip(names, sources, strict=True)):
            values = as_numbers(path, name, source)
            x[index] = values.to_numpy(zero_copy_only=False)
            if is_text(source.type):
                table = table.set_column(table.schema.get_field_index(name), name, values)
    chunk = Chunk(x=np.ascontiguousarray(x.T), table=table, numbers=numbers, rejected=ragged)
    return _set_not_finite_aside(chunk, signature, sources)


def _encoded_chunk(
    path: Path,
    table: pa.RecordBatch,
    numbers: npt.NDArray[np.int64],
    rejected: list[tuple[int, str]],
    columns: Columns,
) -> Chunk:
    """Encodes raw rows; those with values of another kind are set aside, column after column."""
    while True:
        try:
            with errors_of_raw_columns(path):
                x = encode(columns, pa.Table.from_batches([table]))
            return Chunk(x=x, table=table, numbers=numbers, rejected=rejected)
        except WrongValues as wrong:
            if not wrong.is_wrong.any():
                # Setting none aside would bring the same error for ever.
                raise DataError(f"{path}: {wrong}") from None
            rows = np.flatnonzero(wrong.is_wrong)
            values = wrong.column.take(pa.array(rows)).to_pylist()
            reasons = [
                f"column {wrong.name!r}: expected {wrong.expected}, received {quoted(value)}" for value in values
            ]
            rejected = [*rejected, *zip(numbers[rows].tolist(), reasons, strict=True)]
            table = table.filter(pa.array(~wrong.is_wrong))
            numbers = numbers[~wrong.is_wrong]


def _set_not_finite_aside(chunk: Chunk, signature: Signature, sources: Any) -> Chunk:
    """Sets rows aside where a feature is no finite number; `sources[i]` are the values of feature i as they came."""
    is_finite = np.isfinite(chunk.x)
    if is_finite.all():
        return chunk
    is_bad: npt.NDArray[np.bool_] = np.logical_not(is_finite.all(axis=1))
    rows = np.flatnonzero(is_bad)
    names = column_names(signature)
    reasons = []
    for row, column in zip(rows.tolist(), is_finite[rows].argmin(axis=1).tolist(), strict=True):
        value = sources[column][row]
        reasons.append(no_finite_number(names[column], _python(value), signature))
    return chunk.without(is_bad, reasons)


def _set_bright_aside(chunk: Chunk, signature: Signature) -> Chunk:
    """Sets images aside with pixels that the model never saw."""
    if signature.input_max is None or not chunk.x.size:
        return chunk
    brightest = chunk.x.reshape(len(chunk.x), -1).max(axis=1)
    is_bad = brightest > signature.input_max
    reasons = [f"expected pixels of 0 to {signature.input_max}, received up to {value}" for value in brightest[is_bad]]
    return chunk.without(is_bad, reasons)


def _python(value: Any) -> Any:
    return value.as_py() if isinstance(value, pa.Scalar) else value.item()
