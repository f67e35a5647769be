"""A table of the user's own as a data set."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annlib.data.column_statistics import ColumnStatistics
from annlib.data.columns import Columns, Kind
from annlib.data.conversion import OneKind, to_numbers
from annlib.data.dataset import Dataset, Split, Task
from annlib.data.encoding import encode
from annlib.data.own_table.checks import (
    check_leakage,
    check_sums_of_weights,
    check_type,
    check_weights,
    left_out,
    other_names,
    used_names,
)
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import find_table, read_table
from annlib.data.own_table.hints import RowCount, notes_on
from annlib.data.own_table.scanning import CHUNK_ROWS
from annlib.data.own_table.splitting import (
    Rows,
    check_training_classes,
    count_classes,
    split_at_random,
    split_by_column,
)
from annlib.data.own_table.target import Target, TargetColumn, check_resolution, find_target


def load_table(config: TableConfig) -> Dataset:
    """Reads a table, finds the task, splits the rows, and fits the columns on the training split.

    Args:
        config: which file, which columns, which split.

    Returns:
        x float32, shape (n, columns), as `annlib.data.encoding.encode` makes it; y as of `Target.encode`; weights have
        the mean 1 in each split.

    Raises:
        DataError: the table cannot be trained on; what, where, how many rows, examples.
    """
    found = find_table(config.data)
    table = read_table(found, used_names(found.names, config))
    names = [name for name in table.column_names if name not in other_names(config)]
    for name in (*names, *config.target):
        OneKind(name, is_target=name in config.target).update(table[name]).check()
    target = find_target([TargetColumn(name).update(table[name]) for name in config.target], config.task)
    if target.task == "regression":
        numbers = to_numbers(target.names[0], table[target.names[0]])
        check_resolution(target, float(numbers.mean()), float(numbers.std()))
    y = target.encode(table)
    features = table.select(names).combine_chunks()
    kinds = _kinds(features)
    notes = check_leakage(features, table, config)
    splits = _split(table, target, y, config)
    check_training_classes(target, count_classes(target, y[splits[0]]), len(splits[0]), config.split)
    weights = None if config.weight is None else _weights(table[config.weight], config.weight, splits)
    columns, useless = fit_columns(features, kinds, splits[0])
    notes += left_out(columns, useless, config)
    notes += notes_on(found, table, RowCount(features.schema).update(features), config)
    x = encode(columns, features)
    train, validation, test = (
        Split(x=x[rows], y=y[rows], weight=None if weights is None else weights[rows]) for rows in splits
    )
    return table_dataset(
        config,
        (train, validation, test),
        columns=columns,
        task=target.task,
        class_names=target.class_names,
        notes=(target.note, *notes),
    )


def table_dataset(
    config: TableConfig,
    splits: tuple[Split, Split, Split],
    *,
    columns: Columns,
    task: Task,
    class_names: tuple[str, ...] | None,
    notes: tuple[str, ...],
) -> Dataset:
    """Returns the data set of a table whose rows are encoded, in memory or on disk."""
    train, validation, test = splits
    return Dataset(
        name=config.data,
        train=train,
        validation=validation,
        test=test,
        class_names=class_names,
        feature_names=columns.encoded_names,
        target_name=config.target[0] if task == "regression" else None,
        task=task,
        columns=columns,
        notes=notes,
    )


def fit_columns(features: pa.Table, kinds: dict[str, Kind], rows: Rows) -> tuple[Columns, dict[str, str]]:
    """Fits the columns on some rows; returns them, and why others tell nothing, as `ColumnStatistics.result` does."""
    statistics = ColumnStatistics(kinds)
    for start in range(0, len(rows), CHUNK_ROWS):
        statistics.update(features.take(pa.array(rows[start : start + CHUNK_ROWS])))
    return statistics.result()


def _kinds(features: pa.Table) -> dict[str, Kind]:
    kinds = {name: check_type(features.schema.field(name), len(features)) for name in features.column_names}
    for name, kind in kinds.items():
        if kind in ("number", "boolean"):
            # Before anything is fitted, for infinite numbers.
            to_numbers(name, features[name])
    return kinds


def _split(table: pa.Table, target: Target, y: npt.NDArray[Any], config: TableConfig) -> tuple[Rows, Rows, Rows]:
    if config.split is not None:
        return split_by_column(table[config.split], config.split)
    return split_at_random(
        target,
        y,
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )


def _weights(column: pa.ChunkedArray, name: str, splits: Sequence[Rows]) -> npt.NDArray[np.float32]:
    weights = check_weights(column, name)
    sums = [float(weights[rows].sum()) for rows in splits]
    check_sums_of_weights(sums, [len(rows) for rows in splits], name)
    for rows, total in zip(splits, sums, strict=True):
        # The learning rate then means the same for weights of any size, and a loss is the weighted mean.
        weights[rows] /= total / len(rows)
    return weights.astype(np.float32)
