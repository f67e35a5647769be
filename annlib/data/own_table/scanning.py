"""Files of one table that need not fit into memory, read a chunk of rows after the other."""

import dataclasses
from collections.abc import Iterator
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from pyarrow import csv, parquet

from annlib.data.conversion import check_quotes, trimmed
from annlib.data.own_table.files import (
    DATES,
    FALSE_TEXTS,
    TRUE_TEXTS,
    ZONED,
    TableFiles,
    csv_conversion,
    csv_parsing,
    errors_of,
    no_rows,
    with_last,
)
from annlib.data.own_table.types import common_type, convert

CHUNK_ROWS = 65_536
# Of wide rows there are fewer in a chunk.
CHUNK_BYTES = 32 * 2**20
# Of a Parquet file, by which the width of a row is found.
FIRST_ROWS = 1_000
# Of all columns of a Parquet file, read ahead; without it, all of a row group is.
_BUFFER_BYTES = 32 * 2**20
# Of a CSV file, read at once; a row has to fit in.
CSV_BLOCK_BYTES = 4 * 2**20
# What the texts of a CSV column are tried to be, narrowest first.
_TIME = pa.time32("s")
_TYPES = (pa.null(), pa.bool_(), pa.int64(), pa.float64(), _TIME, *DATES, pa.string())
# What a type may become when a later text does not fit.
_WIDER = {
    pa.null(): _TYPES[1:],
    pa.bool_(): (pa.string(),),
    pa.int64(): (pa.float64(), pa.string()),
    pa.float64(): (pa.string(),),
    _TIME: (pa.string(),),
    pa.timestamp("s"): (pa.timestamp("ns"), pa.string()),
    pa.timestamp("ns"): (pa.string(),),
    ZONED[0]: (ZONED[1], pa.string()),
    ZONED[1]: (pa.string(),),
    pa.string(): (),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableScan:
    """A table in files.

    Args:
        found: the files.
        schemas: names and types of the columns that are read, as each file has them.
        schema: the same for every chunk.
        num_rows: rows of all files, 1 or more.
    """

    found: TableFiles
    schemas: tuple[pa.Schema, ...]
    schema: pa.Schema
    num_rows: int

    @classmethod
    def open(cls, found: TableFiles, names: list[str]) -> Self:
        """Finds the types of columns and how many rows there are; CSV files are read once for that.

        Args:
            found: as for `read_table`.
            names: as for `read_table`.

        Raises:
            DataError: as `read_table` raises it.
        """
        survey = _survey_csv if found.paths[0].endswith(".csv") else _survey_parquet
        surveys = [survey(found, index, names) for index in range(len(found.paths))]
        num_rows = sum(rows for _, rows in surveys)
        if not num_rows:
            raise no_rows(found.pattern)
        schemas = tuple(schema for schema, _ in surveys)
        types = {name: [schema.field(name).type for schema in schemas] for name in names}
        schema = pa.schema([(name, common_type(name, types[name])) for name in names])
        return cls(found=found, schemas=schemas, schema=schema, num_rows=num_rows)

    def chunks(self) -> Iterator[pa.Table]:
        """Yields all rows in their order, `CHUNK_ROWS` or fewer at a time, and about `CHUNK_BYTES` or less.

        Raises:
            DataError: a file cannot be read.
        """
        for path, schema in zip(self.found.paths, self.schemas, strict=True):
            with errors_of(path):
                batches = self._csv(path, schema) if path.endswith(".csv") else self._parquet(path)
                for batch in batches:
                    table = convert(pa.Table.from_batches([batch]), self.schema)
                    for start in range(0, len(table), CHUNK_ROWS):
                        yield table.slice(start, CHUNK_ROWS).combine_chunks()

    def _csv(self, path: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        # What another file makes a text is read as it is written.
        own = {
            name: pa.string() if self.schema.field(name).type == pa.string() else type_
            for name, type_ in zip(schema.names, schema.types, strict=True)
        }
        # Arrow does not take a blank before a date in a column that is known to hold dates.
        read = {name: pa.string() if pa.types.is_timestamp(type_) else type_ for name, type_ in own.items()}
        for batch in open_csv(self.found.files, path, csv_conversion(list(read), read)):
            columns = [
                column if column.type == own[name] else trimmed(column).cast(own[name])
                for name, column in zip(read, batch.columns, strict=True)
            ]
            yield pa.record_batch(columns, names=list(read))

    def _parquet(self, path: str) -> Iterator[pa.RecordBatch]:
        names = self.schema.names
        with open_parquet(self.found.files, path, len(names)) as file:
            first = next(file.iter_batches(FIRST_ROWS, columns=names), None)
            if first is not None:
                most = CHUNK_BYTES * len(first) // max(first.nbytes, 1)
                yield from file.iter_batches(min(max(most, 1), CHUNK_ROWS), columns=names)


def _survey_parquet(found: TableFiles, index: int, names: list[str]) -> tuple[pa.Schema, int]:
    path = found.paths[index]
    with errors_of(path), parquet.ParquetFile(path, filesystem=found.files) as file:
        schema = file.schema_arrow
        return pa.schema([(name, schema.field(name).type) for name in names]), file.metadata.num_rows


def open_parquet(files: pyarrow.fs.FileSystem, path: str, num_columns: int) -> parquet.ParquetFile:
    """Opens a Parquet file, so many columns of which are read a part of their rows after the other."""
    # Not less than a page of most files, for each read of an object store takes its time.
    buffer_size = max(_BUFFER_BYTES // num_columns, 2**16)
    return parquet.ParquetFile(path, filesystem=files, pre_buffer=False, buffer_size=buffer_size)


def _survey_csv(found: TableFiles, index: int, names: list[str]) -> tuple[pa.Schema, int]:
    files, path = found.files, found.paths[index]
    with errors_of(path):
        types = dict.fromkeys(names, pa.null())
        num_rows, last = 0, None
        read_names = with_last(names, found.all_names[index])
        for batch in open_csv(files, path, csv_conversion(read_names, dict.fromkeys(read_names, pa.string()))):
            num_rows += len(batch)
            last = batch
            types = {name: _widen(types[name], batch[name]) for name in names}
        if last is not None:
            check_quotes(last, lambda: files.open_input_file(path))
    return pa.schema(list(types.items())), num_rows


def open_csv(files: pyarrow.fs.FileSystem, path: str, conversion: csv.ConvertOptions) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a CSV file, a block of text after the other."""
    reading = csv.ReadOptions(block_size=CSV_BLOCK_BYTES)
    with files.open_input_stream(path) as stream:
        yield from csv.open_csv(stream, reading, parse_options=csv_parsing(), convert_options=conversion)


def _widen(type_: pa.DataType, text: pa.Array) -> pa.DataType:
    """Returns the narrowest type, the given one or a wider one, that all texts are."""
    return next(found for found in (type_, *_WIDER[type_]) if _are(found, text))


def _are(type_: pa.DataType, text: pa.Array) -> bool:
    if pa.types.is_null(type_):
        return bool(text.null_count == len(text))
    if pa.types.is_boolean(type_):
        # Without 0 and 1, which a cast takes for booleans as well.
        known = pa.array(TRUE_TEXTS + FALSE_TEXTS)
        return bool(pc.all(pc.or_(pc.is_in(text, value_set=known), pc.is_null(text))).as_py())
    if type_ == _TIME:
        # Which no model takes; a cast does not know them.
        is_time = pc.match_substring_regex(text, r"^[ \t]*([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?[ \t]*$")
        return bool(pc.all(pc.fill_null(is_time, True)).as_py())
    try:
        # As Arrow's CSV reader does with numbers.
        (text if pa.types.is_string(type_) else trimmed(text)).cast(type_)
    except pa.ArrowInvalid:
        return False
    return True
