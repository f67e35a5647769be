"""Whether a table fits into memory."""

from pyarrow import parquet

from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import errors_of, find_files
from annlib.memory import memory_limit_bytes

# What a worker takes whatever the table, measured with 1,000,000 and 4,000,000 rows of 20 mixed columns.
BASE_BYTES = 1200 * 2**20
# Bytes in memory for each byte of a table while it is prepared and trained on: of CSV text, of Parquet's values.
FACTORS = {"csv": 3.0, "parquet": 6.0}


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
    return memory_needed_bytes(config.data) > limit


def memory_needed_bytes(pattern: str) -> int:
    """Returns about what training on a table in memory takes at most, from the sizes of its files."""
    files, paths = find_files(pattern)
    ending = paths[0].rsplit(".", 1)[1]
    size = 0
    for path, info in zip(paths, files.get_file_info(paths), strict=True):
        if ending == "csv":
            size += info.size
            continue
        with errors_of(path), parquet.ParquetFile(path, filesystem=files) as file:
            groups = range(file.metadata.num_row_groups)
            size += sum(file.metadata.row_group(group).total_byte_size for group in groups)
    return int(BASE_BYTES + FACTORS[ending] * size)
