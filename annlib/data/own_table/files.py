"""Files of a table: found by path, directory, glob or URI, and read into one table of named columns."""

import contextlib
import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs
from pyarrow import csv, parquet

from annlib.data.conversion import NULL_TEXTS, check_quotes, is_row_name, trimmed
from annlib.data.names import check_different, check_separator
from annlib.data.own_table.types import common_type, convert, different
from annlib.errors import DataError
from annlib.storage import describe, is_remote, open_filesystem

ENDINGS = (".csv", ".parquet")
# What is a boolean in a CSV file; 0 and 1 are numbers.
TRUE_TEXTS = ("true", "True", "TRUE")
FALSE_TEXTS = ("false", "False", "FALSE")
# What the texts of dates are tried to be, narrowest first.
ZONED = (pa.timestamp("s", "UTC"), pa.timestamp("ns", "UTC"))
DATES = (pa.timestamp("s"), pa.timestamp("ns"), *ZONED)
# A date beside blanks, which Arrow takes for text where it has a time of day.
_PADDED_DATE = r"^[ \t]+\d{4}-\d{2}-\d{2}|^\d{4}-\d{2}-\d{2}.*[ \t]$"
_WILDCARDS = "*?["
_NUM_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableFiles:
    """The files of one table.

    Args:
        pattern: what the user has given.
        files: the file system.
        paths: the files in their order.
        all_names: names of the columns of each file, in its order; the same for all but for that.
    """

    pattern: str
    files: pyarrow.fs.FileSystem
    paths: list[str]
    all_names: list[list[str]]

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return self.all_names[0]


def find_table(pattern: str) -> TableFiles:
    """Finds the files of a table, and looks at the names of their columns.

    Args:
        pattern: an absolute path or a URI: a file, a directory of such files at any depth, or either with `*`, `?`,
            `[...]`, and `**` for any directories. In a URI, `?` is none of them: `check_storage` takes it for options.

    Raises:
        DataError: nothing is found, a file cannot be read or is of another kind, the files have different columns, or a
            column comes twice.
    """
    files, paths = find_files(pattern)
    all_names = [column_names(files, path) for path in paths]
    _check_columns(paths, all_names)
    return TableFiles(pattern=pattern, files=files, paths=paths, all_names=all_names)


def read_table(found: TableFiles, names: Sequence[str]) -> pa.Table:
    """Reads all files into one table; numbers, dates and booleans of CSV files get their types.

    Args:
        found: the files.
        names: which columns to read; the others take no memory, and their types and values do not matter.

    Raises:
        DataError: a file cannot be read, or there are no rows.
    """
    table = _concatenate(found, [_read_file(found, index, names) for index in range(len(found.paths))])
    if not len(table):
        raise no_rows(found.pattern)
    return table


def find_files(pattern: str) -> tuple[pyarrow.fs.FileSystem, list[str]]:
    """Returns the file system and the files of a pattern, sorted.

    Raises:
        DataError: nothing is found, or files of both kinds.
    """
    files, path = open_filesystem(pattern)
    try:
        paths = _match(files, path)
    except OSError as error:
        reason = describe(error) if is_remote(pattern) else error.strerror or error
        raise DataError(f"--data {pattern} cannot be read: expected files, received: {reason}. Correct it.") from None
    if not paths:
        what = "a file that matches" if any(sign in path for sign in _WILDCARDS) else "a file, or a directory of them,"
        is_directory = files.get_file_info(path).type == pyarrow.fs.FileType.Directory
        state = "holds no table" if is_directory else "does not exist"
        raise DataError(f"--data {pattern} {state}: expected {what} ending in .csv or .parquet. Correct it.")
    wrong = [found for found in paths if not found.endswith(ENDINGS)]
    if wrong:
        raise DataError(
            f"--data {pattern} holds {wrong[0]}: expected files that end in .csv or .parquet. Convert or rename it, or "
            "give a glob."
        )
    if len({found.rsplit(".", 1)[1] for found in paths}) > 1:
        raise DataError(
            f"--data {pattern} holds CSV and Parquet: expected one kind of file. Give a glob such as *.csv."
        )
    return files, paths


def _match(files: pyarrow.fs.FileSystem, path: str) -> list[str]:
    parts, kind = path.rstrip("/").split("/"), files.get_file_info(path).type
    # Before anything is taken for a pattern: a name may have brackets.
    if kind == pyarrow.fs.FileType.Directory:
        # Beside its tables, a directory may hold anything.
        return [found for found in _find(files, parts, ["**", "*"]) if found.endswith(ENDINGS)]
    if kind == pyarrow.fs.FileType.File:
        return [path]
    fixed = next((index for index, part in enumerate(parts) if any(sign in part for sign in _WILDCARDS)), None)
    return [] if fixed is None else _find(files, parts[:fixed], parts[fixed:])


def _find(files: pyarrow.fs.FileSystem, directory: Sequence[str], patterns: Sequence[str]) -> list[str]:
    # Only as deep as the pattern, for a bucket may be large.
    place, recursive = "/".join(directory) or "/", len(patterns) > 1
    selector = pyarrow.fs.FileSelector(place, allow_not_found=True, recursive=recursive)
    found = [info.path for info in files.get_file_info(selector) if info.type == pyarrow.fs.FileType.File]
    names = {path: path.split("/")[len(directory) :] for path in found}
    # What begins with . or _ is in the making, a marker or a copy, as for Spark; so are such directories.
    return sorted(
        path
        for path, parts in names.items()
        if not any(part.startswith((".", "_")) for part in parts) and _fits(parts, patterns)
    )


def _fits(names: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns or not names:
        return not patterns and not names
    if patterns[0] == "**":
        return _fits(names, patterns[1:]) or _fits(names[1:], patterns)
    return fnmatch.fnmatchcase(names[0], patterns[0]) and _fits(names[1:], patterns[1:])


def column_names(files: pyarrow.fs.FileSystem, path: str) -> list[str]:
    """Returns the names of a file's columns, of which a CSV file's first rows are read.

    Raises:
        DataError: the file cannot be read, or has a column twice.
    """
    with errors_of(path):
        if path.endswith(".csv"):
            with files.open_input_stream(path) as stream:
                # Rows of other widths, as of another separator, are told of where they are read.
                parsing = csv_parsing()
                parsing.invalid_row_handler = lambda _: "skip"
                names = csv.open_csv(stream, parse_options=parsing).schema.names
        else:
            found = parquet.read_schema(path, filesystem=files).names
            names = [name for name in found if not is_row_name(name)]
    if path.endswith(".csv"):
        check_separator(path, names)
    check_different(path, names)
    return list(names)


def _read_file(found: TableFiles, index: int, names: Sequence[str]) -> pa.Table:
    path = found.paths[index]
    with errors_of(path):
        if path.endswith(".csv"):
            table = _read_csv(found, index, names)
            check_encoding(path, table.schema)
            return table
        with parquet.ParquetFile(path, filesystem=found.files) as file:
            # Names with a dot may bring others.
            return file.read(columns=list(names)).select(names)


@contextlib.contextmanager
def errors_of(path: str) -> Iterator[None]:
    """Turns what reading a file raises into a DataError of one line."""
    try:
        yield
    # Names that are not UTF-8 are read when somebody looks at them. A column may be gone since its name was read.
    except (OSError, UnicodeDecodeError, KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        is_csv = path.endswith(".csv")
        kind = "a CSV file in UTF-8, with as many values in each row as names" if is_csv else "a Parquet file"
        reason = " ".join(str(error).split()).rstrip(".")[:300]
        raise DataError(f"{path} cannot be read: expected {kind}, received: {reason}. Correct or replace it.") from None


def check_encoding(path: str, schema: pa.Schema) -> None:
    """Raises DataError where a CSV file is not UTF-8."""
    binary = [field.name for field in schema if pa.types.is_binary(field.type)]
    if binary:
        raise DataError(
            f"{path} cannot be read: expected UTF-8, received another encoding in {binary[0]!r}. Convert it."
        )


def no_rows(pattern: str) -> DataError:
    """Returns the error of files that hold names only."""
    return DataError(f"{pattern} has no rows: expected a line of names and rows, received names only. Add rows.")


def csv_parsing() -> csv.ParseOptions:
    """Returns how CSV files are cut into values."""
    return csv.ParseOptions(newlines_in_values=True)


def csv_conversion(names: Sequence[str] = (), types: Mapping[str, pa.DataType] | None = None) -> csv.ConvertOptions:
    """Returns how values of CSV files are read: these columns, all without names; those without a type get one."""
    return csv.ConvertOptions(
        include_columns=list(names),
        column_types=types,
        null_values=list(NULL_TEXTS),
        strings_can_be_null=True,
        true_values=list(TRUE_TEXTS),
        false_values=list(FALSE_TEXTS),
    )


def with_last(names: Sequence[str], all_names: Sequence[str]) -> list[str]:
    """Returns the names with a CSV file's last column as the last: there `check_quotes` looks."""
    return [*(name for name in names if name != all_names[-1]), all_names[-1]]


def _read_csv(found: TableFiles, index: int, names: Sequence[str], texts: Sequence[str] = ()) -> pa.Table:
    """Reads columns of a CSV file; the columns `texts` stay text."""
    content = found.files.open_input_file(found.paths[index]).read_buffer()
    read_names = with_last(names, found.all_names[index])

    def read(texts: Iterable[str]) -> pa.Table:
        conversion = csv_conversion(read_names, dict.fromkeys(texts, pa.string()))
        table = csv.read_csv(pa.BufferReader(content), parse_options=csv_parsing(), convert_options=conversion)
        check_quotes(table, lambda: pa.BufferReader(content))
        return table.select(names)

    try:
        table = read(texts)
        return pa.table({name: table[name] if name in texts else _trimmed(table[name]) for name in names})
    except pa.ArrowInvalid as error:
        if "conversion error" not in str(error):
            raise
    # The types are those of the first rows: here later rows hold something else.
    table = read(read_names)
    return pa.table({name: table[name] if name in texts else _typed(_trimmed(table[name])) for name in names})


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns dates beside blanks as dates."""
    if not pa.types.is_string(column.type) or not pc.any(pc.match_substring_regex(column, _PADDED_DATE)).as_py():
        return column
    dates = _typed(trimmed(column))
    return dates if pa.types.is_timestamp(dates.type) else column


def _typed(text: pa.ChunkedArray) -> pa.ChunkedArray:
    for type_ in (pa.int64(), pa.float64(), *DATES):
        try:
            return text.cast(type_)
        except pa.ArrowInvalid:
            continue
    return text


def _check_columns(paths: Sequence[str], names: Sequence[Sequence[str]]) -> None:
    """Raises DataError where a file has other columns than the first one."""
    expected = set(names[0])
    for path, found in zip(paths, names, strict=True):
        missing, more = sorted(expected - set(found)), sorted(set(found) - expected)
        if missing or more:
            difference = f"lacks {_shown(missing)}" if missing else f"also has {_shown(more)}"
            raise DataError(
                f"{path} has other columns than {paths[0]}: expected {len(expected)} columns of the same names, "
                f"received one that {difference}. Give files of one table."
            )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NUM_SHOWN} more" if len(names) > _NUM_SHOWN else ""
    return ", ".join(repr(name) for name in names[:_NUM_SHOWN]) + more


def _concatenate(found: TableFiles, tables: list[pa.Table]) -> pa.Table:
    names = tables[0].column_names
    types = {name: [table[name].type for table in tables] for name in names}
    schema = pa.schema([(name, common_type(name, types[name])) for name in names])
    texts = [name for name in names if different(types[name])]
    if texts and found.paths[0].endswith(".csv"):
        # As they are written, for 01 is no number beside A1.
        tables = [_read_csv(found, index, names, texts=texts) for index in range(len(found.paths))]
    return pa.concat_tables([convert(table, schema) for table in tables])
