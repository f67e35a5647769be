"""Statistics of a table's columns over the training split, a chunk of rows after the other."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.columns import DATE_PARTS, MOST_ONE_HOT, Column, Columns, Kind
from annlib.data.conversion import examples, to_text
from annlib.data.encoding import raw_numbers

Array = npt.NDArray[Any]

# The most frequent values of a category keep a code of their own, the others share that of unseen ones.
MOST_VALUES = 10_000
# A text column with more different values than this share of its rows holds names or ids.
ID_SHARE = 0.9
# Beyond so many different values they are not counted any more.
_MOST_COUNTED = 1_000_000
# Of the texts that are counted, of all columns together.
_MOST_BYTES = 64 * 2**20
# Different texts of chunks that are kept until they are counted together.
_MOST_PENDING = 100_000


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
        self._save_memory()
        return self

    def _save_memory(self) -> None:
        """Counts no more in the columns that take most, those of ids before others, where all of them take too much."""
        columns = [found for found in self._found.values() if isinstance(found, _Values)]
        while sum(column.num_bytes for column in columns) > _MOST_BYTES:
            for column in columns:
                column.merge()
            if sum(column.num_bytes for column in columns) > _MOST_BYTES:
                max(columns, key=lambda column: (column.has_ids, column.num_bytes)).give_up()

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
    """How often each value of a category is there; in Arrow, where a text takes a fifth of what it takes in Python."""

    def __init__(self) -> None:
        self._counts = pa.table({"values": pa.array([], pa.string()), "counts": pa.array([], pa.int64())})
        self._pending: list[pa.Table] = []
        self._num_missing = 0
        # How many different values there were when there were too many.
        self._too_many: int | None = None

    def update(self, text: pa.ChunkedArray) -> None:
        self._num_missing += text.null_count
        if self._too_many is None:
            self._pending.append(pa.Table.from_struct_array(pc.value_counts(text.drop_null())))
            # Not after each chunk, which would take longer with each.
            if sum(map(len, self._pending)) > max(_MOST_PENDING, len(self._counts)):
                self.merge()

    def merge(self) -> None:
        if self._pending:
            both = pa.concat_tables([self._counts, *self._pending])
            # In one thread values keep their order.
            self._counts = both.group_by("values", use_threads=False).aggregate([("counts", "sum")])
            self._counts = self._counts.rename_columns(["values", "counts"])
            self._pending = []
        if len(self._counts) > _MOST_COUNTED:
            self.give_up(_MOST_COUNTED)

    def give_up(self, too_many: int | None = None) -> None:
        self._too_many = len(self._counts) - 1 if too_many is None else too_many
        self._counts = self._counts.slice(0, 0).combine_chunks()

    @property
    def num_bytes(self) -> int:
        return sum(int(table.nbytes) for table in (self._counts, *self._pending))

    @property
    def has_ids(self) -> bool:
        """Nearly all values counted so far are different ones."""
        return len(self._counts) > max(ID_SHARE * (pc.sum(self._counts["counts"]).as_py() or 0), MOST_ONE_HOT / 2)

    def useless(self, kind: Kind) -> str | None:
        self.merge()
        if self._too_many is not None:
            return f"more than {self._too_many:,} different texts, as of names or ids,"
        if not len(self._counts):
            return "no value at all"
        if len(self._counts) == 1 and not self._num_missing:
            return f"always {examples(self._counts['values'])}"
        shown = examples(self._counts.sort_by("values")["values"])
        return f"{len(self._counts):,} different texts, as of names or ids ({shown})," if self.has_ids else None

    def column(self, name: str, kind: Kind) -> Column:
        self.merge()
        counts = self._counts
        if len(counts) > MOST_ONE_HOT:
            # What is there once tells nothing of its own, and trains the code of unseen values.
            counts = counts.filter(pc.greater(counts["counts"], 1))
        by_frequency = counts.sort_by([("counts", "descending"), ("values", "ascending")])
        values: Sequence[str] = by_frequency["values"].slice(0, MOST_VALUES).to_pylist()
        return Column(name=name, kind=kind, values=tuple(values), has_missing=self._num_missing > 0)
