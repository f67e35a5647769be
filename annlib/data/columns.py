"""The columns of a table as they were fitted over the training split, and what they become for a model.

A number, boolean or part of a date is standardised, a missing one becomes the mean. A category becomes a code: 0 for a
value that was not seen, then 1 for a missing one where the training split had such, then the values by frequency.
"""

import dataclasses
from typing import Literal

from pydantic import ConfigDict

Kind = Literal["number", "boolean", "date", "category"]

DATE_PARTS = ("year", "month", "day", "weekday", "hour")
# What stands for a date that is missing, the least int64.
MISSING_DATE = -(2**63)
# Up to this many codes a category is one-hot, from there on it is embedded.
MOST_ONE_HOT = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """A fitted column.

    Args:
        name: of the raw column.
        kind: what it holds.
        parts: of a date: the parts that vary.
        means: mean over the training split; of a date, one a part; none of a category.
        scales: standard deviations likewise, positive.
        values: of a category: the values with a code of their own, the most frequent first.
        has_missing: of a category: missing values have a code of their own.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: str
    kind: Kind
    parts: tuple[str, ...] = ()
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    has_missing: bool = False

    @property
    def num_codes(self) -> int:
        """Codes of a category: unseen, missing where there were such, and the values."""
        return 1 + self.has_missing + len(self.values)

    @property
    def is_embedded(self) -> bool:
        """A category of too many codes for one-hot."""
        return self.num_codes > MOST_ONE_HOT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """The fitted columns of a table: numbers first, categories behind.

    Args:
        columns: those that the model gets.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    columns: tuple[Column, ...]

    @property
    def categories(self) -> tuple[Column, ...]:
        """The categories, in the order of their codes."""
        return tuple(column for column in self.columns if column.kind == "category")

    @property
    def num_numbers(self) -> int:
        """Standardised numbers before the codes."""
        return sum(len(column.means) for column in self.columns)

    @property
    def raw_names(self) -> tuple[str, ...]:
        """Names of the raw columns."""
        return tuple(column.name for column in self.columns)

    @property
    def encoded_names(self) -> tuple[str, ...]:
        """Name of each encoded column."""
        numbers = [
            f"{column.name}.{part}" if part else column.name
            for column in self.columns
            if column.kind != "category"
            for part in (column.parts if column.kind == "date" else ("",))
        ]
        return (*numbers, *(column.name for column in self.categories))
