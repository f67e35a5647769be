"""Statistics of a table's columns over the training split, a chunk of rows after the other."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.columns import DATE_PARTS, MOST_ONE_HOT, Column, Columns, Kind
from annlib.data.conversion import to_text
from annlib.data.encoding import raw_numbers

Array = npt.NDArray[Any]

# The most frequent values of a category keep a code of their own, the others share that of unseen ones.
MOST_VALUES = 10_000
# A text column with more different values than this share of its rows holds names or ids.
ID_SHARE = 0.9
# Beyond so many different values they are not counted any more.
_MOST_COUNTED = 1_000_000


class ColumnStatistics:
    """Collects what the columns need, from chunks of rows in any order.

    Args:
        kinds: the kind of each column, by name.
    """

    def __init__(self, kinds: Mapping[str, Kind]) -> None:
        self.kinds = dict(kinds)
        self.num_rows = 0
        self._found: dict[str, _Moments | _Values] = {
            name: _Values() if kind == "category" else _Moments(len(DATE_PARTS) if kind == "date" else 1)
            for name, kind in kinds.items()
        }

    def update(self, chunk: pa.Table, counts: npt.NDArray[np.bool_] | None = None) -> Self:
        """Adds rows.

        Args:
            chunk: rows with the columns.
            counts: which of them count, shape (n,), the others are only checked; None counts all.

        Raises:
            DataError: a value is of another kind than the column.
        """
        counts = np.ones(len(chunk), np.bool_) if counts is None else counts
        self.num_rows += int(counts.sum())
        for name, found in self._found.items():
            column = chunk[name]
            if isinstance(found, _Values):
                found.update(to_text(column).filter(pa.array(counts)))
            else:
                found.update(raw_numbers(name, self.kinds[name], column)[counts])
        return self

    def result(self) -> tuple[Columns, dict[str, str]]:
        """Returns the fitted columns, and for each that tells nothing the reason: all missing, constant, ids."""
        columns, useless = [], {}
        for name, found in self._found.items():
            reason = found.useless(self.kinds[name])
            if reason is not None:
                useless[name] = f"{reason} in {self.num_rows:,} training rows"
            else:
                columns.append(found.column(name, self.kinds[name]))
        return Columns(columns=tuple(columns)), useless


class _Moments:
    """Count, mean and squared deviations, merged by Chan, Golub and LeVeque, The American Statistician 37, 1983."""

    def __init__(self, width: int) -> None:
        self._count, self._mean, self._squares = np.zeros(width), np.zeros(width), np.zeros(width)
        self._low, self._high = np.full(width, np.inf), np.full(width, -np.inf)

    def update(self, numbers: Array) -> None:
        part = _Moments(numbers.shape[1])
        is_there = ~np.isnan(numbers)
        part._count = is_there.sum(axis=0).astype(np.float64)
        part._mean = np.where(is_there, numbers, 0.0).sum(axis=0) / np.maximum(part._count, 1)
        part._squares = (np.where(is_there, numbers - part._mean, 0.0) ** 2).sum(axis=0)
        if len(numbers):
            part._low = np.where(is_there, numbers, np.inf).min(axis=0)
            part._high = np.where(is_there, numbers, -np.inf).max(axis=0)
        self.merge(part)

    def merge(self, other: "_Moments") -> None:
        count = self._count + other._count
        delta, safe = other._mean - self._mean, np.maximum(count, 1)
        self._mean = self._mean + delta * other._count / safe
        self._squares = self._squares + other._squares + delta**2 * self._count * other._count / safe
        self._count = count
        self._low, self._high = np.minimum(self._low, other._low), np.maximum(self._high, other._high)

    def useless(self, kind: Kind) -> str | None:
        if not self._count.any():
            return "no value at all"
        if (self._low < self._high).any():
            return None
        if kind == "date":
            year, month, day, _, hour = self._low.astype(np.int64).tolist()
            return f"always {year:04}-{month:02}-{day:02} from {hour:02}:00 to {hour:02}:59"
        return f"always {self._low[0]:g}"

    def column(self, name: str, kind: Kind) -> Column:
        varies = self._low < self._high
        scales = np.sqrt(self._squares / np.maximum(self._count, 1))[varies]
        parts = tuple(part for part, kept in zip(DATE_PARTS, varies, strict=False) if kept) if kind == "date" else ()
        # Where the values differ by less than the squares can tell.
        scales = np.where(scales > 0, scales, 1.0)
        if kind == "date":
            # Next to a year that a single row has, the years to come would be tens of standard deviations away.
            scales = np.maximum(scales, 1.0)
        means = tuple(self._mean[varies].tolist())
        return Column(name=name, kind=kind, parts=parts, means=means, scales=tuple(scales.tolist()))


class _Values:
    """How often each value of a category is there."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._num_missing = 0
        self._too_many = False

    def update(self, text: pa.ChunkedArray) -> None:
        self._num_missing += text.null_count
        if not self._too_many:
            found = pc.value_counts(text.drop_null())
            self._counts.update(dict(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True)))
        if len(self._counts) > _MOST_COUNTED:
            self._too_many = True
            self._counts.clear()

    def useless(self, kind: Kind) -> str | None:
        if self._too_many:
            return f"more than {_MOST_COUNTED:,} different texts, as of names or ids,"
        present = self._counts.total()
        if not present:
            return "no value at all"
        if len(self._counts) == 1 and not self._num_missing:
            return f"always {next(iter(self._counts))!r}"
        shown = ", ".join(repr(value) for value in sorted(self._counts)[:3])
        is_ids = len(self._counts) > max(ID_SHARE * present, MOST_ONE_HOT / 2)
        return f"{len(self._counts):,} different texts, as of names or ids ({shown}, ...)," if is_ids else None

    def column(self, name: str, kind: Kind) -> Column:
        by_frequency = sorted(self._counts, key=lambda value: (-self._counts[value], value))
        if len(by_frequency) > MOST_ONE_HOT:
            # What is there once tells nothing of its own, and trains the code of unseen values.
            by_frequency = [value for value in by_frequency if self._counts[value] > 1]
        values: Sequence[str] = by_frequency[:MOST_VALUES]
        return Column(name=name, kind=kind, values=tuple(values), has_missing=self._num_missing > 0)
