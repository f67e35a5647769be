"""Columns of a table as numbers, through Arrow."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from annlib.sample_checks import another_type

# What Arrow's and pandas' parsers agree on. The rest, such as " 1", goes to pandas, as in a file that is read whole.
_PLAIN_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def as_numbers(path: Path, name: str, column: pa.Array) -> pa.Array:
    """Returns a column as numbers; null or NaN where there is none.

    Raises:
        DataError: it is neither numbers nor text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column
    if pa.types.is_boolean(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return pc.cast(column, pa.float64(), safe=False)
    if not is_text(kind):
        raise another_type(path, name, kind)
    try:
        return pc.cast(column, pa.float64())
    except pa.ArrowInvalid:
        return _look_again(column)


def _look_again(column: pa.Array) -> pa.Array:
    """Returns a column of text as numbers, of which some are none: only those are looked at one by one."""
    import pandas as pd

    is_plain = pc.fill_null(pc.match_substring_regex(column, _PLAIN_NUMBER), False)
    others = pd.to_numeric(column.filter(pc.invert(is_plain)).to_pandas(), errors="coerce")
    numbers = pc.cast(pc.if_else(is_plain, column, None), pa.float64())
    return pc.replace_with_mask(numbers, pc.invert(is_plain), pa.array(others, pa.float64(), from_pandas=False))


def is_text(kind: pa.DataType) -> bool:
    """Tells whether a column is text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
