"""Which row of a table is for training, validation or test."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from annlib.data.conversion import examples, to_text
from annlib.data.own_table.target import Target
from annlib.errors import DataError

SPLITS = ("train", "validation", "test")
FEWEST_ROWS = 10
Rows = npt.NDArray[np.int64]


def split_by_column(column: pa.ChunkedArray, name: str) -> tuple[Rows, Rows, Rows]:
    """Returns the rows that the column calls train, validation and test, in their order.

    Raises:
        DataError: another value, a missing one, or a split without rows.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        raise DataError(
            f"--split column {name!r} is of type {column.type}: expected {', '.join(SPLITS)}, received "
            f"{examples(column)} in {len(column):,} rows. Correct the column, or give --validation-fraction."
        )
    text = to_text(column)
    is_wrong = pc.invert(pc.is_in(text, value_set=pa.array(SPLITS)))
    num_wrong = pc.sum(is_wrong).as_py()
    if num_wrong:
        raise DataError(
            f"--split column {name!r} has other values in {num_wrong:,} of {len(text):,} rows: expected "
            f"{', '.join(SPLITS)}, received {examples(text.filter(is_wrong))}. Correct them."
        )
    train, validation, test = (np.flatnonzero(np.asarray(pc.equal(text, split).combine_chunks())) for split in SPLITS)
    for split, rows in zip(SPLITS, (train, validation, test), strict=True):
        if not len(rows):
            raise DataError(
                f"--split column {name!r} leaves {split} empty: expected rows of each of {', '.join(SPLITS)}, received "
                f"0 of {len(text):,}. Mark some rows as {split}."
            )
    return train, validation, test


def split_at_random(
    target: Target, target_name: str, *, validation_fraction: float, test_fraction: float, seed: int
) -> tuple[Rows, Rows, Rows]:
    """Returns a random split; of classes each has its share in every split, and at least one row.

    Raises:
        DataError: there are fewer rows than `FEWEST_ROWS`, or fewer rows of a class than splits.
    """
    num_rows = len(target.y)
    if num_rows < FEWEST_ROWS:
        raise DataError(
            f"the table has too few rows: expected {FEWEST_ROWS} or more for a random split, received {num_rows}. "
            "Add rows, or say by a --split column which is which."
        )
    groups = [np.arange(num_rows)]
    if target.task in ("binary", "multiclass"):
        order = np.argsort(target.y, kind="stable")
        counts = np.bincount(target.y)
        _check_classes(target, target_name, counts)
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


def _check_classes(target: Target, target_name: str, counts: npt.NDArray[np.int64]) -> None:
    assert target.class_names is not None
    rare = [
        f"{name!r} ({count})" for name, count in zip(target.class_names, counts, strict=True) if count < len(SPLITS)
    ]
    if rare:
        more = f" and {len(rare) - 3} more" if len(rare) > 3 else ""
        raise DataError(
            f"target {target_name!r} has classes of too few rows: expected {len(SPLITS)} or more of each, one a split, "
            f"received {', '.join(rare[:3])}{more} in {len(target.y):,} rows. Remove or merge these classes, give a "
            "--split column, or --task regression for numbers."
        )


def check_classes_of_splits(target: Target, splits: tuple[Rows, Rows, Rows], names: tuple[str, ...]) -> None:
    """Checks that every class or label can be learnt from the training split.

    Raises:
        DataError: a class is not in the training split, or a label has one value there.
    """
    if target.class_names is None:
        return
    y = target.y[splits[0]]
    if target.task == "multilabel":
        bad = [name for name, label in zip(names, y.T, strict=True) if label.min() == label.max()]
    else:
        there = np.bincount(y, minlength=len(target.class_names))
        bad = [name for name, count in zip(target.class_names, there, strict=True) if not count]
    if bad:
        raise DataError(
            f"the training split cannot teach {bad[0]!r} of target {', '.join(names)}: expected rows of every class, "
            f"and of both values of a label, received {len(bad)} without in {len(y):,} training rows. Move rows, or "
            "take another --split-seed."
        )
