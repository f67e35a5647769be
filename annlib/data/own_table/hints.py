"""Notes on columns that are read as they are written, which may not be what they mean."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from annlib.data.conversion import examples, kind_of
from annlib.data.own_table.config import TableConfig

# pandas gives such a name to a column that has none, as the row names that it writes to CSV files.
_NO_NAME = re.compile(r"(Unnamed: \d+)?")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T,].*)?")
_NUMBER = re.compile(r"[-+(]?\s*[^\w\s,.-]?\s*[-+]?\d[\d\s,.']*\s*([^\w\s]|EUR|USD|GBP|CHF)?\s*\)?")
# What a text tells is told by the first ones.
_NUM_TEXTS = 1_000


def is_unnamed(name: str) -> bool:
    """Tells whether a column has no name, so that it is taken as a feature only where --features names it."""
    return _NO_NAME.fullmatch(name) is not None


def unnamed_notes(column_names: Sequence[str], config: TableConfig) -> list[str]:
    """Returns a note on each column without a name that is not used."""
    used = {*config.target, config.weight, config.split, *config.drop, *(config.features or ())}
    return [
        f"left out {name!r}, column {number}: it has no name, as row names have that pandas writes; --features takes it"
        for number, name in enumerate(column_names, start=1)
        if is_unnamed(name) and name not in used
    ]


def text_notes(table: pa.Table) -> list[str]:
    """Returns a note on each column of texts that look like dates or numbers."""
    notes = []
    for name in table.column_names:
        if kind_of(table[name].type) != "category":
            continue
        texts = [str(text).strip() for text in table[name].slice(0, _NUM_TEXTS).drop_null().unique().to_pylist()]
        if not texts:
            continue
        shown = examples(texts)
        if all(map(_DATE.fullmatch, texts)):
            notes.append(f"{name!r} is taken for texts, not for dates ({shown}): dates are written as 2024-12-31")
        # Codes such as 007 are texts on purpose.
        elif all(map(_NUMBER.fullmatch, texts)) and not all(map(str.isdigit, texts)):
            notes.append(
                f"{name!r} is taken for texts, not for numbers ({shown}): they have a decimal point and no other sign"
            )
    return notes


class RowCount:
    """Finds columns that count the rows: in the file that they come from, they may tell the target by its order.

    Args:
        schema: of the features.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._first: dict[str, int | None] = {field.name: None for field in schema if pa.types.is_integer(field.type)}
        self._num_rows = 0

    def update(self, chunk: pa.Table) -> "RowCount":
        """Takes the next rows."""
        for name, first in list(self._first.items()):
            numbers = chunk[name].to_numpy()
            if first is None and len(numbers) and not chunk[name].null_count:
                first = self._first[name] = int(numbers[0]) - self._num_rows
            if first is not None:
                expected = np.arange(len(numbers), dtype=np.float64) + (first + self._num_rows)
                if not np.array_equal(numbers, expected):
                    del self._first[name]
            elif len(numbers):
                del self._first[name]
        self._num_rows += len(chunk)
        return self

    def notes(self, config: TableConfig) -> list[str]:
        """Returns a note on each column that counts, where the user has not named it."""
        if config.features is not None or self._num_rows < 3:
            return []
        return [
            f"{name!r} counts the rows, from {first:,} on: leave it out by --drop unless new rows have such a number"
            for name, first in self._first.items()
            if first is not None
        ]
