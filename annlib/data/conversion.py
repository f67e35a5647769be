"""Raw columns of a table, text or typed, as numbers, dates or categories; the same for training and prediction."""

import os
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.columns import MISSING_DATE, Kind
from annlib.errors import DataError, quoted

# What means in a text that there is no value.
NULL_TEXTS = ("", "#N/A", "<NA>", "N/A", "n/a", "NA", "NaN", "nan", "NULL", "null")
TRUE_TEXTS = ("true", "True", "TRUE", "1")
FALSE_TEXTS = ("false", "False", "FALSE", "0")
# What Arrow's reader of CSV files takes for numbers, for whole ones to the base of 16, and for dates of the calendar.
_NUMBER = r"^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|(?i:inf|infinity|nan(?:\(\w*\))?))$"
_HEXADECIMAL = r"^0[xX][0-9a-fA-F]{1,16}$"
_DAY = (
    r"(?:\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?)?"
_ZONE = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
_DATE = rf"^{_DAY}(?:[ T]{_TIME}{_ZONE}?)?$"
# What all texts of a column may be, or none: Arrow reads dates with a zone, or those without, as one column.
_KINDS = {
    "numbers": _NUMBER,
    "dates without a time zone": rf"^{_DAY}(?:[ T]{_TIME})?$",
    "dates with a time zone": rf"^{_DAY}[ T]{_TIME}{_ZONE}$",
}
_NUM_EXAMPLES = 3
# What models compute with holds no more, float32.
_LARGEST = float(np.finfo(np.float32).max)


def is_row_name(name: str) -> bool:
    """Tells whether pandas calls the rows of a table so that have no name: that is no column of the table."""
    return name.startswith("__index_level_")


def check_quotes(rows: pa.Table | pa.RecordBatch, open_file: Callable[[], Any]) -> None:
    """Raises ArrowInvalid where a quote in a CSV file is not closed, so that it has taken all rows after it for text.

    Args:
        rows: the last rows of the file, as Arrow has read them.
        open_file: opens the file, of bytes.
    """
    value = rows.column(rows.num_columns - 1)[-1].as_py() if rows.num_rows else None
    if not isinstance(value, str) or "\n" not in value:
        return
    with open_file() as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 8))
        end = file.read()
    # Arrow takes the end of the file for that of the quote.
    if not end.rstrip().endswith(b'"'):
        raise pa.ArrowInvalid(f'a quote " that is not closed, before {quoted(value)}')


def kind_of(type_: pa.DataType) -> Kind | None:
    """Returns what a column of this type is; None for a type that no model takes."""
    if pa.types.is_dictionary(type_):
        return kind_of(type_.value_type)
    if pa.types.is_boolean(type_):
        return "boolean"
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    if pa.types.is_date(type_) or pa.types.is_timestamp(type_):
        return "date"
    # A column without any value has the type null.
    is_text = pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
    return "category" if is_text or pa.types.is_null(type_) else None


def trimmed(text: pa.Array | pa.ChunkedArray) -> Any:
    """Returns texts without the blanks and tabs around them that Arrow's reader of CSV files passes over."""
    return pc.ascii_trim(text, " \t")


def to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the values as text; null where there is none, or where the text says so."""
    text = column.cast(pa.string())
    return pc.if_else(pc.is_in(text, value_set=pa.array(NULL_TEXTS)), None, text)


def to_numbers(name: str, column: pa.ChunkedArray, kind: Kind = "number") -> npt.NDArray[np.float64]:
    """Returns numbers, 0 and 1 for a boolean, NaN where a value is missing; of any type where all are.

    Raises:
        DataError: a text is no number, or a number is beyond float32; names the column, how many, and examples.
    """
    if _is_empty(column):
        return np.full(len(column), np.nan)
    type_ = kind_of(column.type)
    if type_ == "date" and kind == "number":
        raise _wrong(name, "numbers", column, pc.is_valid(column))
    if type_ == "category":
        text = to_text(trimmed(column.cast(pa.string())))
        if kind == "boolean":
            is_true = pc.is_in(text, value_set=pa.array(TRUE_TEXTS))
            is_known = pc.is_in(text, value_set=pa.array(TRUE_TEXTS + FALSE_TEXTS))
            _check(name, "true or false", text, is_known)
            column = pc.if_else(pc.is_valid(text), is_true, None)
        else:
            column = _text_numbers(name, text)
    column = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
    numbers = column.cast(pa.float64(), safe=False)
    is_too_large = pc.fill_null(pc.greater(pc.abs(numbers), _LARGEST), False)
    if pc.any(is_too_large).as_py():
        raise _wrong(name, f"finite numbers up to {_LARGEST:.2g}", numbers, is_too_large)
    return np.array(numbers.combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)


def _text_numbers(name: str, text: pa.ChunkedArray) -> pa.ChunkedArray:
    is_hexadecimal = pc.match_substring_regex(text, _HEXADECIMAL)
    _check(name, "numbers", text, pc.or_(pc.match_substring_regex(text, _NUMBER), is_hexadecimal))
    # A cast takes the ones or the others.
    whole = pc.if_else(is_hexadecimal, text, None).cast(pa.int64())
    return pc.coalesce(whole.cast(pa.float64(), safe=False), pc.if_else(is_hexadecimal, None, text).cast(pa.float64()))


def to_seconds(name: str, column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Returns whole seconds since 1970-01-01, UTC where the column has a time zone; MISSING_DATE for none.

    A column of any type is taken where all values are missing.

    Raises:
        DataError: a text is no ISO 8601 date, or values are of another type.
    """
    if _is_empty(column):
        return np.full(len(column), MISSING_DATE, np.int64)
    if kind_of(column.type) == "category":
        return _text_seconds(name, trimmed(to_text(column)))
    if kind_of(column.type) != "date":
        raise _wrong(name, "dates", column, pc.invert(pc.is_null(column, nan_is_null=True)))
    column = column.cast(pa.timestamp("s"), safe=False) if not pa.types.is_timestamp(column.type) else column
    seconds = column.cast(pa.timestamp("s", tz=column.type.tz), safe=False).cast(pa.int64())
    return _as_seconds(seconds)


def _text_seconds(name: str, text: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    _check(name, "ISO 8601 dates of the calendar such as 2024-01-31 or 2024-01-31T12:00:00", text, is_date(text))
    # Seconds are whole, also those of years that nanoseconds do not reach.
    text = pc.replace_substring_regex(text, r"\.\d+", "")
    # A cast takes those with a zone or those without one.
    is_zoned = pc.match_substring_regex(text, f"[ T].*{_ZONE}$")
    zoned = pc.if_else(is_zoned, text, None).cast(pa.timestamp("s", "UTC")).cast(pa.int64())
    others = pc.if_else(is_zoned, None, text).cast(pa.timestamp("s")).cast(pa.int64())
    return _as_seconds(pc.coalesce(zoned, others))


def _as_seconds(seconds: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    found = seconds.fill_null(MISSING_DATE).combine_chunks()
    return np.array(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def is_date(text: pa.Array | pa.ChunkedArray) -> Any:
    """Tells of each text whether it is a date of the calendar as ISO 8601 writes it."""
    return pc.match_substring_regex(trimmed(text), _DATE)


class OneKind:
    """Whether a text column is of one kind, found in chunks of rows in their order.

    Args:
        name: of the column.
        is_target: it is predicted, so that it cannot be left out.
    """

    def __init__(self, name: str, *, is_target: bool = False) -> None:
        self.name, self._is_target = name, is_target
        self._num_rows = self._num_texts = 0
        self._num_of_kind = dict.fromkeys(_KINDS, 0)
        # The first different texts of another kind.
        self._others = dict.fromkeys(_KINDS, pa.array([], pa.string()))

    def update(self, column: pa.ChunkedArray) -> Self:
        """Adds rows; those of a column that is no text are of one kind."""
        if kind_of(column.type) == "category":
            found = pc.value_counts(to_text(column).drop_null())
            texts, counts = found.field("values"), found.field("counts")
            self._num_rows += len(column)
            self._num_texts += pc.sum(counts, min_count=0).as_py()
            trimmed_texts = trimmed(texts)
            for kind, pattern in _KINDS.items():
                is_of_kind = pc.match_substring_regex(trimmed_texts, pattern)
                self._num_of_kind[kind] += pc.sum(counts.filter(is_of_kind), min_count=0).as_py()
                others = texts.filter(pc.invert(is_of_kind)).slice(0, _NUM_EXAMPLES + 1)
                self._others[kind] = pc.unique(pa.concat_arrays([self._others[kind], others]))
        return self

    def check(self) -> None:
        """Raises DataError where half of the texts or more, but not all of them, are numbers or dates."""
        advice = "or remove these rows" if self._is_target else "these values, or leave it out by --drop"
        for kind, number in self._num_of_kind.items():
            if self._num_texts / 2 <= number < self._num_texts:
                raise DataError(
                    f"column {self.name!r} mixes {kind} and other texts: expected one of them, received "
                    f"{examples(self._others[kind])} in {self._num_texts - number:,} of {self._num_rows:,} rows, "
                    f"{kind} in the others. Correct {advice}."
                )


def examples(values: Any, number: int = _NUM_EXAMPLES) -> str:
    """Returns the first different values, quoted and cut short."""
    found = pc.unique(values).slice(0, number + 1).to_pylist()
    more = ", ..." if len(found) > number else ""
    return ", ".join(map(quoted, found[:number])) + more


def _is_empty(column: pa.ChunkedArray) -> bool:
    """Tells whether all values are missing: pandas writes such a column as floats, whatever it was before."""
    return bool(pc.all(pc.is_null(column, nan_is_null=True), min_count=0).as_py())


def _check(name: str, expected: str, text: pa.ChunkedArray, is_right: pa.ChunkedArray) -> None:
    is_wrong = pc.and_(pc.is_valid(text), pc.invert(pc.fill_null(is_right, True)))
    if pc.any(is_wrong).as_py():
        raise _wrong(name, expected, text, is_wrong)


class WrongValues(DataError):
    """Values of a column are of another kind than the column.

    Args:
        name: of the column.
        expected: what its values should be.
        column: all values.
        is_wrong: which of them are of another kind, shape (n,).
    """

    def __init__(self, name: str, expected: str, column: pa.ChunkedArray, is_wrong: npt.NDArray[np.bool_]) -> None:
        self.name, self.expected, self.column, self.is_wrong = name, expected, column, is_wrong
        wrong = column.filter(pa.array(is_wrong))
        rows = np.flatnonzero(is_wrong)
        first = f", the first in row {rows[0] + 1}" if len(rows) else ""
        super().__init__(
            f"column {name!r} has values of another kind: expected {expected}, received {examples(wrong)} in "
            f"{len(wrong):,} of {len(column):,} rows{first}. Correct them."
        )


def _wrong(name: str, expected: str, column: pa.ChunkedArray, is_wrong: pa.ChunkedArray) -> WrongValues:
    found = pc.fill_null(is_wrong, False).combine_chunks().to_numpy(zero_copy_only=False)
    return WrongValues(name, expected, column, np.asarray(found, dtype=np.bool_))
