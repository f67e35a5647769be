"""What a table's target asks for: the kind of task, its classes, and the numbers that a model trains on."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.columns import Kind
from annlib.data.conversion import examples, kind_of, to_numbers, to_text
from annlib.data.dataset import Task
from annlib.errors import DataError, quoted

# Whole numbers of at most so many different values are classes, unless `task` says otherwise.
MOST_NUMBER_CLASSES = 20
# Beyond so many different values they are not told apart any more.
MOST_DISTINCT = 1_000_000
# Of the standard deviation of a target: what float32 may round away.
MOST_ROUNDED = 1e-3


class TargetColumn:
    """What a target column holds, found in chunks of rows in their order.

    Args:
        name: of the column.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind: Kind = "number"
        self.is_boolean = False
        self.num_rows = 0
        self._counts = pa.array([], pa.int64())
        self.values = pa.array([], pa.null())
        """The different values in the order in which they come, texts of a category."""
        self.has_more = False
        """There are more than `MOST_DISTINCT` different values, not all of them in `values`."""
        self.are_whole = True
        """Numbers are whole."""
        self._num_missing = 0
        self._missing_rows: list[int] = []

    def update(self, column: pa.ChunkedArray) -> Self:
        """Adds rows.

        Raises:
            DataError: the values are of a type that no model predicts, or infinite.
        """
        kind = kind_of(column.type)
        if kind is None or kind == "date":
            raise DataError(
                f"target {self.name!r} is of type {column.type}: expected numbers, booleans or texts, received "
                f"{examples(column) if kind else 'values that no model predicts'} in {len(column):,} rows. Convert it."
            )
        self.kind, self.is_boolean = kind, kind == "boolean"
        if kind == "category":
            column = to_text(column)
        is_missing = pc.is_null(column, nan_is_null=True)
        rows = np.flatnonzero(np.asarray(is_missing.combine_chunks()))
        self._missing_rows += (rows[: 3 - len(self._missing_rows)] + self.num_rows + 1).tolist()
        self._num_missing += len(rows)
        self.num_rows += len(column)
        if kind == "number":
            numbers = to_numbers(self.name, column)
            self.are_whole = self.are_whole and bool((numbers == np.floor(numbers)).all())
        if not self.has_more:
            found = pc.value_counts(column.drop_null())
            values, counts = found.field("values"), found.field("counts")
            values, counts = [self.values.cast(values.type), values], [self._counts, counts]
            both = pa.table({"value": pa.chunked_array(values), "count": pa.chunked_array(counts)})
            # In one thread the values keep their order.
            both = both.group_by("value", use_threads=False).aggregate([("count", "sum")]).combine_chunks()
            self.values, self._counts = (both[name].combine_chunks() for name in ("value", "count_sum"))
            self.has_more = len(self.values) > MOST_DISTINCT
        return self

    def check(self) -> None:
        """Raises DataError where a value is missing."""
        if self._num_missing:
            raise DataError(
                f"target {self.name!r} is missing in {self._num_missing:,} of {self.num_rows:,} rows: expected a value "
                f"in each, received none in row {', '.join(map(str, self._missing_rows))}"
                f"{', ...' if self._num_missing > 3 else ''}. Remove these rows."
            )

    @property
    def distinct(self) -> str:
        """How many different values there are."""
        return f"more than {MOST_DISTINCT:,}" if self.has_more else f"{len(self.values):,}"

    @property
    def examples(self) -> str:
        """The first different values."""
        return examples(self.values)

    @property
    def most_frequent(self) -> str:
        """The most frequent value and its share: the accuracy of a model that always says so."""
        index = int(np.argmax(self._counts))
        return f"{quoted(self.values[index].as_py())} in {self._counts[index].as_py() / self.num_rows:.1%} of the rows"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What is predicted, and as which numbers.

    Args:
        task: the kind of task.
        names: the target columns.
        class_names: name of each class or label; None for a regression.
        classes: the values of the classes in the order of their numbers; None without classes.
        reason: why it is this kind of task.
    """

    task: Task
    names: tuple[str, ...]
    class_names: tuple[str, ...] | None
    classes: pa.Array | None = None
    reason: str

    @property
    def note(self) -> str:
        """What kind of task it is, and why, in a line."""
        return f"{self.task} of {', '.join(self.names)}: {self.reason}"

    def encode(self, table: pa.Table) -> npt.NDArray[Any]:
        """Returns float32, shape (n,), of a regression; int32, shape (n,), class numbers; uint8, shape (n, k), labels.

        A value that is no class, for the file has changed since, gets the number -1.

        Args:
            table: rows with the target columns, those that the target was found in.
        """
        if self.task == "multilabel":
            return np.column_stack([to_numbers(name, table[name]).astype(np.uint8) for name in self.names])
        name, column = self.names[0], table[self.names[0]]
        if self.task == "regression":
            return to_numbers(name, column).astype(np.float32)
        assert self.classes is not None
        is_text = kind_of(column.type) == "category"
        values = to_text(column) if is_text else pa.array(to_numbers(name, column))
        found = pc.fill_null(pc.index_in(values, value_set=self.classes), -1)
        return np.asarray(found.combine_chunks() if is_text else found).astype(np.int32)


def check_resolution(target: Target, mean: float, scale: float) -> None:
    """Raises DataError where float32, in which the target is compared with the model's output, would not tell it.

    Args:
        target: a regression.
        mean: of the target.
        scale: its standard deviation; 0 is left to others.
    """
    spacing = float(np.spacing(np.float32(abs(mean))))
    if scale > 0 and spacing > MOST_ROUNDED * scale:
        raise DataError(
            f"target {target.names[0]!r} has more digits than float32 holds: expected values around 0, received values "
            f"around {mean:g} that differ by {scale:g} (standard deviation). Subtract {mean:.0f} from the column."
        )


def find_target(columns: Sequence[TargetColumn], task: Literal["auto"] | Task) -> Target:
    """Finds the kind of task.

    One column of numbers is a regression, unless it holds 2 different values, or at most `MOST_NUMBER_CLASSES` whole
    numbers; texts and booleans are classes; several columns of 0 and 1 are labels.

    Args:
        columns: the target columns, which have seen all rows.
        task: the kind of task, where it is asked for.

    Raises:
        DataError: values are missing, of no use or of another kind than the task.
    """
    for column in columns:
        column.check()
    if len(columns) > 1 or task == "multilabel":
        return _labels(columns, task)
    column = columns[0]
    if len(column.values) == 1:
        raise DataError(
            f"target {column.name!r} has one value only: expected 2 or more, received {column.examples} in all "
            f"{column.num_rows:,} rows. Add rows of other values, or give another --target."
        )
    found, reason = _find_task(column)
    if task != "auto" and task != found:
        _check_task(column, task)
        found, reason = task, "--task"
    if found == "regression":
        return Target(task=found, names=(column.name,), class_names=None, reason=reason)
    if column.has_more or (column.kind == "category" and len(column.values) > column.num_rows / 2):
        raise DataError(
            f"target {column.name!r} has {column.distinct} different values in {column.num_rows:,} rows: expected "
            f"classes with several rows each, received {column.examples}. Give another --target."
        )
    classes, class_names = _classes(column)
    return Target(task=found, names=(column.name,), class_names=class_names, classes=classes, reason=reason)


def _find_task(column: TargetColumn) -> tuple[Task, str]:
    if len(column.values) == 2:
        return "binary", f"2 different values, {column.examples}; {column.most_frequent}"
    if column.kind == "category":
        return "multiclass", f"{column.distinct} different texts, {column.most_frequent}"
    if len(column.values) <= MOST_NUMBER_CLASSES and column.are_whole:
        return "multiclass", f"{column.distinct} different whole numbers, {column.most_frequent}"
    return "regression", f"{column.distinct} different numbers"


def _check_task(column: TargetColumn, task: str) -> None:
    is_text = column.kind == "category"
    if task == "regression" and is_text:
        expected = "numbers"
    elif task == "binary" and len(column.values) != 2:
        expected = "2 different values"
    elif task == "multiclass" and not is_text and not column.are_whole:
        expected = "texts or whole numbers"
    elif task == "multiclass" and len(column.values) == 2:
        expected = "3 or more different values"
    else:
        return
    raise DataError(
        f"--task {task} does not fit target {column.name!r}: expected {expected}, received {column.distinct} different "
        f"values in {column.num_rows:,} rows, {column.examples}. Correct --task or --target."
    )


def _classes(column: TargetColumn) -> tuple[pa.Array, tuple[str, ...]]:
    """Returns the values in their order, which is that of the class numbers, and the names."""
    if column.kind == "category":
        texts = sorted(column.values.to_pylist())
        return pa.array(texts, pa.string()), tuple(texts)
    values = np.unique(to_numbers(column.name, pa.chunked_array([column.values])))
    if column.is_boolean:
        return pa.array(values), tuple("true" if value else "false" for value in values)
    if pa.types.is_integer(column.values.type) and len(values) < len(column.values):
        raise DataError(
            f"target {column.name!r} has whole numbers beyond {2**53:,}, several of which are one number in float64: "
            f"expected {len(column.values)} classes, received {column.examples}. Write them as texts."
        )
    return pa.array(values), _names(values.tolist())


def _names(values: list[float]) -> tuple[str, ...]:
    """Returns the numbers as they stand in a file: all digits of whole ones, and as many as tell the others apart."""
    names = tuple(str(int(value)) if value.is_integer() else f"{value:g}" for value in values)
    return names if len(set(names)) == len(values) else tuple(repr(value).removesuffix(".0") for value in values)


def _labels(columns: Sequence[TargetColumn], task: str) -> Target:
    names = tuple(column.name for column in columns)
    if len(columns) == 1 or task not in ("auto", "multilabel"):
        raise DataError(
            f"--task {task} does not fit {len(names)} target columns: expected several for multilabel, one for all "
            f"others, received {', '.join(names)}. Correct --task or --target."
        )
    for column in columns:
        values = np.array([np.nan])
        if column.kind in ("number", "boolean"):
            values = to_numbers(column.name, pa.chunked_array([column.values]))
        if not np.isin(values, (0, 1)).all():
            raise DataError(
                f"target {column.name!r} is no label: expected 0 and 1 or booleans in each of {len(names)} target "
                f"columns, received {column.examples} in {column.num_rows:,} rows. Give one --target, or encode each "
                "as 0 and 1."
            )
        if len(values) == 1:
            raise DataError(
                f"target {column.name!r} has one value only: expected 0 and 1, received {column.examples} in all "
                f"{column.num_rows:,} rows. Leave this label out."
            )
    return Target(task="multilabel", names=names, class_names=names, reason=f"{len(names)} target columns")
