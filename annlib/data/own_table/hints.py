"""Notes on columns that are read as they are written, which may not be what they mean."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from annlib.data.conversion import examples, is_date, kind_of
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import TableFiles

# pandas gives such a name to a column that has none, as the row names that it writes to CSV files.
_NO_NAME = re.compile(r"(Unnamed: \d+)?")
_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([ T,].*)?")
_NUMBER = re.compile(r"[-+(]?\s*[^\w\s,.-]?\s*[-+]?\d[\d\s,.']*\s*([^\w\s]|EUR|USD|GBP|CHF)?\s*\)?")
# What a text tells is told by the first ones.
_NUM_TEXTS = 1_000


def is_unnamed(name: str) -> bool:
    """Tells whether a column has no name, so that it is taken as a feature only where --features names it."""
    return _NO_NAME.fullmatch(name) is not None


def notes_on(found: TableFiles, sample: pa.Table, row_count: "RowCount", config: TableConfig) -> list[str]:
    """Returns what a user should know of how a table is read.

    Args:
        found: its files.
        sample: some of its rows, with the columns that are used.
        row_count: has been given all rows.
        config: which columns are used, and how.
    """
    return [
        *unnamed_notes(found.names, config),
        *row_count.notes(config),
        *text_notes(sample, is_csv=found.paths[0].endswith(".csv")),
        *_directory_notes(found.pattern, found.paths, [*sample.column_names, *config.drop]),
    ]


def unnamed_notes(column_names: Sequence[str], config: TableConfig) -> list[str]:
    """Returns a note on each column without a name that is not used."""
    used = {*config.target, config.weight, config.split, *config.drop, *(config.features or ())}
    return [
        f"left out {name!r}, column {number}: it has no name, as row names have that pandas writes; --features takes it"
        for number, name in enumerate(column_names, start=1)
        if is_unnamed(name) and name not in used
    ]


def text_notes(table: pa.Table, *, is_csv: bool) -> list[str]:
    """Returns a note on each column of texts that look like dates or numbers.

    Args:
        table: some rows.
        is_csv: they come from CSV files, where a date is what is written as one.
    """
    notes = []
    for name in table.column_names:
        if kind_of(table[name].type) != "category":
            continue
        # Other blanks, such as those that do not break, make a text of a number.
        texts = [str(text).strip(" \t") for text in table[name].slice(0, _NUM_TEXTS).drop_null().unique().to_pylist()]
        if not texts:
            continue
        shown = examples(texts)
        if all(_DATE.fullmatch(text.strip()) for text in texts):
            others = [
                text for text, is_one in zip(texts, is_date(pa.array(texts)).to_pylist(), strict=True) if not is_one
            ]
            if others:
                notes.append(
                    f"{name!r} is taken for texts, not for dates ({examples(others)}): dates are written as 2024-12-31"
                )
            elif not is_csv:
                notes.append(
                    f"{name!r} is taken for texts, not for dates ({shown}), for it is text in the file: write it as "
                    "date or timestamp"
                )
        # Codes such as 007 are texts on purpose.
        elif all(map(_NUMBER.fullmatch, texts)) and not all(map(str.isdigit, texts)):
            notes.append(
                f"{name!r} is taken for texts, not for numbers ({shown}): they have a decimal point and no other sign"
            )
    return notes


def _directory_notes(pattern: str, paths: Sequence[str], names: Iterable[str]) -> list[str]:
    """Returns a note on directories such as `year=2020`, where writers keep what is no column of the files then.

    Args:
        pattern: what the user has given; of directories that stand there the user knows.
        paths: the files.
        names: columns of the files that are read, and others that are not meant.
    """
    known, found = {*pattern.split("/")}, dict[str, str]()
    for part in (part for path in paths for part in path.split("/")[:-1]):
        if "=" in part.strip("=") and part not in known:
            found.setdefault(part.split("=")[0], part)
    keys = [key for key in found if key not in names]
    if not keys:
        return []
    shown = ", ".join(repr(key) for key in keys)
    return [f"directories such as {found[keys[0]]} name {shown}: no columns, for only what is in the files is read"]


class RowCount:
    """Finds columns that count the rows: in the file that they come from, they may tell the target by its order.

    Args:
        schema: of the features.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._first: dict[str, float | None] = {field.name: None for field in schema if pa.types.is_integer(field.type)}
        self._num_rows = 0

    def update(self, chunk: pa.Table) -> "RowCount":
        """Takes the next rows."""
        rows = np.arange(self._num_rows, self._num_rows + len(chunk))
        for name, first in list(self._first.items()) if len(chunk) else []:
            # A missing value is NaN here, which nothing is equal to.
            differences = chunk[name].to_numpy() - rows
            self._first[name] = differences[0] if first is None else first
            if not (differences == self._first[name]).all():
                del self._first[name]
        self._num_rows += len(chunk)
        return self

    def notes(self, config: TableConfig) -> list[str]:
        """Returns a note on each column that counts, where the user has not named it."""
        if config.features is not None or self._num_rows < 3:
            return []
        return [
            f"{name!r} counts the rows, from {first:,.0f} on: leave it out by --drop unless new rows have such a number"
            for name, first in self._first.items()
            if first is not None
        ]
