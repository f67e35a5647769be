"""Whether a table fits into memory."""

import numpy as np
import pyarrow as pa
import pyarrow.fs
from pyarrow import parquet

from annlib.data.columns import DATE_PARTS
from annlib.data.conversion import kind_of
from annlib.data.own_table.checks import used_names
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import column_names, csv_conversion, errors_of, find_files
from annlib.data.own_table.scanning import CSV_BLOCK_BYTES, FIRST_ROWS, open_csv, open_parquet
from annlib.memory import memory_limit_bytes

# What a worker takes whatever the table, measured with 1,000,000 and 4,000,000 rows of 20 mixed columns.
BASE_BYTES = 1200 * 2**20
# Bytes in memory for each byte of a table while it is prepared and trained on: of CSV text, of Parquet's values.
FACTORS = {"csv": 3.0, "parquet": 6.0}
# How often the columns are in memory at once, and so the encoded rows: as they are read and in one piece, all rows and
# the splits, and a quarter more for what Arrow keeps.
COPIES = 2.5


def must_stream(config: TableConfig) -> bool:
    """Tells whether the table does not fit into the memory of a worker.

    Without `memory_limit`, the workers of a machine share its memory, and so does the driver: on a cluster of several
    machines that is less than there is.

    Raises:
        DataError: there are no such files, or one cannot be read.
    """
    if config.streaming:
        return True
    share = memory_limit_bytes() // (1 + config.num_workers[1])
    limit = share if config.memory_limit is None else int(config.memory_limit)
    return memory_needed_bytes(config) > limit


def memory_needed_bytes(config: TableConfig) -> int:
    """Returns about what training on a table in memory takes at most.

    That is found by its rows and columns and, where that is more, by the sizes of its files: encodings of Parquet hold
    texts that repeat in next to nothing, and what is longer in later rows is seen in the sizes alone.

    Raises:
        DataError: there are no such files, one cannot be read, or a column of the configuration is not there.
    """
    files, paths = find_files(config.data)
    names = used_names(column_names(files, paths[0]), config)
    if paths[0].endswith(".csv"):
        size = sum(info.size for info in files.get_file_info(paths))
        by_rows = size + size / CSV_BLOCK_BYTES * _first_csv_block_bytes(files, paths, names)
        return int(BASE_BYTES + max(by_rows, FACTORS["csv"] * size))
    size, num_rows = 0, 0
    for path in paths:
        with errors_of(path), parquet.ParquetFile(path, filesystem=files) as file:
            groups = range(file.metadata.num_row_groups)
            size += sum(file.metadata.row_group(group).total_byte_size for group in groups)
            num_rows += file.metadata.num_rows
    by_rows = num_rows * _parquet_row_bytes(files, paths, names)
    return int(BASE_BYTES + max(by_rows, FACTORS["parquet"] * size))


def _first_csv_block_bytes(files: pyarrow.fs.FileSystem, paths: list[str], names: list[str]) -> float:
    """Returns what a block of text takes in memory."""
    for path in paths:
        with errors_of(path):
            for batch in open_csv(files, path, csv_conversion(names)):
                # What the file has, where it has less than a block.
                size: int = files.get_file_info(path).size
                return _table_bytes(batch) / min(1.0, size / CSV_BLOCK_BYTES)
    return 0.0


def _parquet_row_bytes(files: pyarrow.fs.FileSystem, paths: list[str], names: list[str]) -> float:
    for path in paths:
        with errors_of(path), open_parquet(files, path, len(names)) as file:
            for batch in file.iter_batches(FIRST_ROWS, columns=names):
                return _table_bytes(batch) / len(batch)
    return 0.0


def _table_bytes(rows: pa.RecordBatch) -> float:
    columns = [column.dictionary_decode() if pa.types.is_dictionary(column.type) else column for column in rows.columns]
    numbers = sum(len(DATE_PARTS) if kind_of(column.type) == "date" else 1 for column in columns)
    num_bytes = sum(column.nbytes for column in columns)
    return COPIES * float(num_bytes + len(rows) * numbers * np.dtype(np.float32).itemsize)
