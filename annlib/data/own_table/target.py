"""What a table's target asks for: the kind of task, its classes, and the numbers that a model trains on."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.conversion import examples, kind_of, to_numbers, to_text
from annlib.data.dataset import Task
from annlib.errors import DataError

# Whole numbers of at most so many different values are classes, unless `task` says otherwise.
MOST_NUMBER_CLASSES = 20
_NUM_SHOWN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """The encoded target.

    Args:
        task: the kind of task.
        y: float32, shape (n,), of a regression; int32, shape (n,), class numbers; uint8, shape (n, k), labels 0 and 1.
        class_names: name of each class or label; None for a regression.
        reason: why it is this kind of task.
    """

    task: Task
    y: npt.NDArray[Any]
    class_names: tuple[str, ...] | None
    reason: str


def encode_target(table: pa.Table, names: Sequence[str], task: Literal["auto"] | Task) -> Target:
    """Finds the kind of task and encodes the target.

    One column of numbers is a regression, unless it holds 2 different values, or at most `MOST_NUMBER_CLASSES` whole
    numbers; texts and booleans are classes; several columns of 0 and 1 are labels.

    Args:
        table: all rows.
        names: the target columns.
        task: the kind of task, where it is asked for.

    Raises:
        DataError: values are missing, of no use or of another kind than the task.
    """
    for name in names:
        _check_values(name, table[name])
    if len(names) > 1 or task == "multilabel":
        return _labels(table, names, task)
    name, column = names[0], table[names[0]]
    is_text = kind_of(column.type) == "category"
    distinct = pc.count_distinct(column).as_py()
    if distinct == 1:
        raise DataError(
            f"target {name!r} has one value only: expected 2 or more, received {examples(column)} in all "
            f"{len(column):,} rows. Add rows of other values, or give another --target."
        )
    found, reason = _find_task(column, distinct)
    if task != "auto" and task != found:
        _check_task(name, column, distinct, task)
        found, reason = task, "--task"
    if found == "regression":
        return Target(task=found, y=to_numbers(name, column).astype(np.float32), class_names=None, reason=reason)
    if is_text and distinct > len(column) / 2:
        raise DataError(
            f"target {name!r} has {distinct:,} different texts in {len(column):,} rows: expected classes with several "
            f"rows each, received {examples(column)}. Give another --target."
        )
    y, class_names = _classes(column)
    return Target(task=found, y=y, class_names=class_names, reason=reason)


def _check_values(name: str, column: pa.ChunkedArray) -> None:
    kind = kind_of(column.type)
    if kind is None or kind == "date":
        raise DataError(
            f"target {name!r} is of type {column.type}: expected numbers, booleans or texts, received "
            f"{examples(column) if kind else 'values that no model predicts'} in {len(column):,} rows. Convert it."
        )
    if kind == "category":
        column = to_text(column)
    is_missing = pc.is_null(column, nan_is_null=True)
    num_missing = pc.sum(is_missing).as_py() or 0
    if num_missing:
        rows = np.flatnonzero(np.asarray(is_missing.combine_chunks()))[:3] + 1
        raise DataError(
            f"target {name!r} is missing in {num_missing:,} of {len(column):,} rows: expected a value in each, "
            f"received none in row {', '.join(map(str, rows))}{', ...' if num_missing > 3 else ''}. Remove these rows."
        )
    if kind == "number":
        to_numbers(name, column)


def _find_task(column: pa.ChunkedArray, distinct: int) -> tuple[Task, str]:
    if distinct == 2:
        return "binary", f"2 different values, {examples(column)}"
    if kind_of(column.type) == "category":
        return "multiclass", f"{distinct:,} different texts"
    if distinct <= MOST_NUMBER_CLASSES and _are_whole(column):
        return "multiclass", f"{distinct} different whole numbers"
    return "regression", f"{distinct:,} different numbers"


def _check_task(name: str, column: pa.ChunkedArray, distinct: int, task: str) -> None:
    is_text = kind_of(column.type) == "category"
    if task == "regression" and is_text:
        expected = "numbers"
    elif task == "binary" and distinct != 2:
        expected = "2 different values"
    elif task == "multiclass" and not is_text and not _are_whole(column):
        expected = "texts or whole numbers"
    elif task == "multiclass" and distinct == 2:
        expected = "3 or more different values"
    else:
        return
    raise DataError(
        f"--task {task} does not fit target {name!r}: expected {expected}, received {distinct:,} different values in "
        f"{len(column):,} rows, {examples(column)}. Correct --task or --target."
    )


def _are_whole(column: pa.ChunkedArray) -> bool:
    numbers = to_numbers("target", column)
    return bool((numbers == np.floor(numbers)).all())


def _classes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], tuple[str, ...]]:
    """Returns class numbers in the order of the values, and the names."""
    if kind_of(column.type) == "category":
        values = np.array(to_text(column).to_pylist(), dtype=object).astype(str)
    else:
        values = to_numbers("target", column)
    found, y = np.unique(values, return_inverse=True)
    if pa.types.is_boolean(column.type):
        names = tuple("true" if value else "false" for value in found)
    else:
        names = tuple(value if isinstance(value, str) else f"{value:g}" for value in found.tolist())
    return y.astype(np.int32), names


def _labels(table: pa.Table, names: Sequence[str], task: str) -> Target:
    if len(names) == 1 or task not in ("auto", "multilabel"):
        raise DataError(
            f"--task {task} does not fit {len(names)} target columns: expected several for multilabel, one for all "
            f"others, received {', '.join(names)}. Correct --task or --target."
        )
    columns = []
    for name in names:
        column = table[name]
        values = to_numbers(name, column) if kind_of(column.type) in ("number", "boolean") else np.array([np.nan])
        if not np.isin(values, (0, 1)).all():
            raise DataError(
                f"target {name!r} is no label: expected 0 and 1 or booleans in each of {len(names)} target columns, "
                f"received {examples(column)} in {len(column):,} rows. Give one --target, or encode each as 0 and 1."
            )
        if values.min() == values.max():
            raise DataError(
                f"target {name!r} has one value only: expected 0 and 1, received {examples(column)} in all "
                f"{len(column):,} rows. Leave this label out."
            )
        columns.append(values.astype(np.uint8))
    return Target(
        task="multilabel", y=np.column_stack(columns), class_names=tuple(names), reason=f"{len(names)} target columns"
    )
