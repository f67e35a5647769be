"""Which row of a table is for training, validation or test."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.conversion import examples, to_text
from annlib.data.own_table.target import Target
from annlib.errors import DataError, quoted

SPLITS = ("train", "validation", "test")
FEWEST_ROWS = 10
Rows = npt.NDArray[np.int64]


def split_numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.int8]:
    """Returns the number of each row's split in `SPLITS`, which the column names.

    Raises:
        DataError: another value, or a missing one.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        raise DataError(
            f"--split column {name!r} is of type {column.type}: expected {', '.join(SPLITS)}, received "
            f"{examples(column)} in {len(column):,} rows. Correct the column, or give --validation-fraction instead."
        )
    text = to_text(column)
    numbers = pc.index_in(text, value_set=pa.array(SPLITS))
    if numbers.null_count:
        raise DataError(
            f"--split column {name!r} has other values in {numbers.null_count:,} of {len(text):,} rows: expected "
            f"{', '.join(SPLITS)}, received {examples(text.filter(pc.is_null(numbers)))}. Correct them."
        )
    return np.asarray(numbers.combine_chunks()).astype(np.int8)


def check_split_sizes(sizes: Sequence[int], name: str | None) -> None:
    """Raises DataError where the column of this name, or chance without one, leaves a split without rows."""
    for split, size in zip(SPLITS, sizes, strict=True):
        if not size and name is None:
            raise DataError(
                f"the random split leaves {split} empty: expected rows in each of {', '.join(SPLITS)}, received 0 of "
                f"{sum(sizes):,}. Add rows, take another --split-seed, or say by a --split column which is which."
            )
        if not size:
            raise DataError(
                f"--split column {name!r} leaves {split} empty: expected rows of each of {', '.join(SPLITS)}, received "
                f"0 of {sum(sizes):,}. Mark some rows as {split}."
            )


def split_by_column(column: pa.ChunkedArray, name: str) -> tuple[Rows, Rows, Rows]:
    """Returns the rows that the column calls train, validation and test, in their order.

    Raises:
        DataError: another value, a missing one, or a split without rows.
    """
    numbers = split_numbers(column, name)
    train, validation, test = (np.flatnonzero(numbers == number) for number in range(len(SPLITS)))
    check_split_sizes([len(train), len(validation), len(test)], name)
    return train, validation, test


def check_num_rows(num_rows: int) -> None:
    """Raises DataError where there are too few rows for a random split."""
    if num_rows < FEWEST_ROWS:
        raise DataError(
            f"the table has too few rows: expected {FEWEST_ROWS} or more for a random split, received {num_rows}. "
            "Add rows, or say by a --split column which is which."
        )


def split_at_random(
    target: Target, y: npt.NDArray[Any], *, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[Rows, Rows, Rows]:
    """Returns a random split; of classes each has its share in every split, and at least one row.

    Raises:
        DataError: there are fewer rows than `FEWEST_ROWS`, or fewer rows of a class than splits.
    """
    num_rows = len(y)
    check_num_rows(num_rows)
    groups = [np.arange(num_rows)]
    if target.task in ("binary", "multiclass"):
        order = np.argsort(y, kind="stable")
        counts = np.bincount(y)
        _check_classes(target, counts)
        groups = np.split(order, np.cumsum(counts)[:-1])
    generator = np.random.default_rng(seed)
    parts: tuple[list[Rows], list[Rows], list[Rows]] = ([], [], [])
    for group in groups:
        shuffled = generator.permutation(group)
        num_test = max(1, round(test_fraction * len(group)))
        num_validation = max(1, min(round(validation_fraction * len(group)), len(group) - num_test - 1))
        ends = [len(group) - num_test - num_validation, len(group) - num_test]
        for part, rows in zip(parts, np.split(shuffled, ends), strict=True):
            part.append(rows)
    # In the order of the file, so that reading them is fast.
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)
    return train, validation, test


def _check_classes(target: Target, counts: npt.NDArray[np.int64]) -> None:
    assert target.class_names is not None
    rare = [
        f"{quoted(name)} ({count})"
        for name, count in zip(target.class_names, counts, strict=True)
        if count < len(SPLITS)
    ]
    if rare:
        more = f" and {len(rare) - 3} more" if len(rare) > 3 else ""
        raise DataError(
            f"target {target.names[0]!r} has classes of too few rows: expected {len(SPLITS)} or more of each, one a "
            f"split, received {', '.join(rare[:3])}{more} in {counts.sum():,} rows. Remove or merge these classes, "
            "give a --split column, or --task regression for numbers."
        )


def count_classes(target: Target, y: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Returns the rows of each class, shape (classes,); of labels, those with 0 and with 1, shape (labels, 2)."""
    num_classes = len(target.class_names or ())
    if target.task == "multilabel":
        ones = y.sum(axis=0, dtype=np.int64)
        return np.column_stack([len(y) - ones, ones])
    return np.bincount(y, minlength=num_classes) if num_classes else np.zeros(0, np.int64)


def check_training_classes(
    target: Target, counts: npt.NDArray[np.int64], num_rows: int, split_column: str | None
) -> None:
    """Checks that every class or label can be learnt from the training split.

    Args:
        target: what is predicted.
        counts: what `count_classes` returns for the training split.
        num_rows: rows of the training split.
        split_column: the column that says which rows these are; None where they are drawn.

    Raises:
        DataError: a class is not in the training split, or a label has one value there.
    """
    lowest = counts.min(axis=1) if target.task == "multilabel" else counts
    bad = [name for name, count in zip(target.class_names or (), lowest, strict=True) if not count]
    if bad:
        advice = "Add rows, or take another --split-seed" if split_column is None else "Mark rows of it as train"
        raise DataError(
            f"the training split cannot teach {quoted(bad[0])} of target {', '.join(target.names)}: expected rows of "
            f"every class, and of both values of a label, received {len(bad)} without in {num_rows:,} training rows. "
            f"{advice}."
        )
