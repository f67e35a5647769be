"""One type for a column whose types differ from file to file, found by what they hold."""

from collections.abc import Iterable, Sequence

import pyarrow as pa

from annlib.data.conversion import kind_of
from annlib.errors import DataError

# Of dates, no more than seconds is used; those without a zone are in UTC.
_DATE = pa.timestamp("s", "UTC")


def common_type(name: str, types: Sequence[pa.DataType]) -> pa.DataType:
    """Returns the type of a column that has these types in its files; what differs in kind becomes text.

    Raises:
        DataError: they have nothing in common.
    """
    found = list(dict.fromkeys(type_ for type_ in types if not pa.types.is_null(type_)))
    if not found:
        return pa.null()
    if len(found) == 1:
        # Arrow cannot take rows from views.
        return pa.string() if pa.types.is_string_view(found[0]) else found[0]
    kinds = {kind_of(type_) for type_ in found}
    if kinds == {"number"}:
        # Of whole numbers, all digits may count: those of classes.
        is_whole = all(pa.types.is_integer(type_) and type_ != pa.uint64() for type_ in found)
        return pa.int64() if is_whole else pa.float64()
    if kinds == {"date"}:
        return _DATE
    if kinds == {"boolean"}:
        return pa.bool_()
    if kinds == {None} or any(kind_of(type_) is None and not pa.types.is_time(type_) for type_ in found):
        raise DataError(
            f"column {name!r} has another type from file to file: expected one, received "
            f"{' and '.join(sorted({str(type_) for type_ in types}))}. Convert it, or leave it out by --drop."
        )
    # Numbers here and texts there; `OneKind` tells what that column is.
    return pa.string()


def convert(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the columns of a schema in its types, which `common_type` found."""
    return pa.table([_convert(table[field.name], field.type) for field in schema], schema=schema)


def different(types: Iterable[pa.DataType]) -> bool:
    """Tells whether types differ in kind, so that the column is text as it is written."""
    return len({kind_of(type_) for type_ in types if not pa.types.is_null(type_)}) > 1


def _convert(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if column.type == type_:
        return column
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    # Not safe: whole numbers beyond 2**53 are rounded, as a model rounds them, and dates lose fractions.
    return column.cast(type_, safe=False)
