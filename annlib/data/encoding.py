"""Raw rows of a table as the array of numbers that a model takes, by columns that were fitted."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.columns import DATE_PARTS, MISSING_DATE, Column, Columns, Kind
from annlib.data.conversion import to_numbers, to_seconds, to_text

Array = npt.NDArray[Any]


def encode(columns: Columns, table: pa.Table) -> npt.NDArray[np.float32]:
    """Returns what the model takes for raw rows, float32, shape (n, len(columns.encoded_names)).

    Args:
        columns: the fitted columns.
        table: rows with these columns by name, in any order, beside others.

    Raises:
        DataError: a value is of another kind than the column.
    """
    encoded = np.empty((len(table), len(columns.encoded_names)), np.float32)
    start, code = 0, columns.num_numbers
    for column in columns.columns:
        values = table[column.name]
        if column.kind == "category":
            encoded[:, code] = _codes(column, values)
            code += 1
        else:
            end = start + len(column.means)
            encoded[:, start:end] = _standardized(column, values)
            start = end
    return encoded


def _codes(column: Column, values: pa.ChunkedArray) -> Array:
    text = to_text(values)
    found = pc.index_in(text, value_set=pa.array(column.values, pa.string()), skip_nulls=True)
    codes = pc.fill_null(pc.add(found, 1 + column.has_missing), 0)
    return np.asarray(pc.if_else(pc.is_null(text), int(column.has_missing), codes).combine_chunks())


def _standardized(column: Column, values: pa.ChunkedArray) -> Array:
    numbers = raw_numbers(column.name, column.kind, values)
    if column.kind == "date":
        numbers = numbers[:, [DATE_PARTS.index(part) for part in column.parts]]
    standardized = (numbers - np.array(column.means)) / np.array(column.scales)
    return np.where(np.isnan(standardized), 0.0, standardized)


def raw_numbers(name: str, kind: Kind, column: pa.ChunkedArray) -> Array:
    """Returns float64, shape (n, 1), or a column for each of DATE_PARTS; NaN where a value is missing."""
    if kind == "date":
        return date_parts(to_seconds(name, column))
    return to_numbers(name, column, kind).reshape(-1, 1)


def date_parts(seconds: npt.NDArray[np.int64]) -> Array:
    """Returns year, month, day, weekday (Monday is 0) and hour, float64, shape (n, 5); NaN for a missing date."""
    is_missing = seconds == MISSING_DATE
    times = np.where(is_missing, 0, seconds).astype("datetime64[s]")
    days, months = times.astype("datetime64[D]"), times.astype("datetime64[M]")
    parts = (
        times.astype("datetime64[Y]").astype(np.int64) + 1970,
        months.astype(np.int64) % 12 + 1,
        (days - months).astype(np.int64) + 1,
        (days.astype(np.int64) + 3) % 7,
        (times - days).astype(np.int64) // 3600,
    )
    found = np.column_stack(parts).astype(np.float64)
    found[is_missing] = np.nan
    return found
