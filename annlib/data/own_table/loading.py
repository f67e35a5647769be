"""A table of the user's own as a data set."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annlib.config import did_you_mean
from annlib.data.column_statistics import ColumnStatistics
from annlib.data.columns import Columns, Kind
from annlib.data.conversion import check_one_kind, examples, kind_of, to_numbers
from annlib.data.dataset import Dataset, Split
from annlib.data.encoding import encode
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import read_table
from annlib.data.own_table.leakage import tells_target
from annlib.data.own_table.splitting import SPLITS, Rows, check_classes_of_splits, split_at_random, split_by_column
from annlib.data.own_table.target import Target, encode_target
from annlib.errors import DataError

CHUNK_ROWS = 65_536


def load_table(config: TableConfig) -> Dataset:
    """Reads a table, finds the task, splits the rows, and fits the columns on the training split.

    Args:
        config: which file, which columns, which split.

    Returns:
        x float32, shape (n, columns), as `annlib.data.encoding.encode` makes it; y as of `encode_target`; weights have
        the mean 1 in each split.

    Raises:
        DataError: the table cannot be trained on; what, where, how many rows, examples.
    """
    table = read_table(config.data)
    names = _feature_names(table, config)
    for name in (*names, *config.target):
        check_one_kind(name, table[name])
    target = encode_target(table, config.target, config.task)
    features = table.select(names).combine_chunks()
    kinds = _kinds(features, config)
    notes = _check_leakage(features, table, config)
    splits = _split(table, target, config)
    check_classes_of_splits(target, splits, config.target)
    weights = None if config.weight is None else _weights(table[config.weight], config.weight, splits)
    columns, useless = fit_columns(features, kinds, splits[0])
    notes += _left_out(columns, useless, config)
    x = encode(columns, features)
    train, validation, test = (
        Split(x=x[rows], y=target.y[rows], weight=None if weights is None else weights[rows]) for rows in splits
    )
    return Dataset(
        name=config.data,
        train=train,
        validation=validation,
        test=test,
        class_names=target.class_names,
        feature_names=columns.encoded_names,
        target_name=config.target[0] if target.task == "regression" else None,
        task=target.task,
        columns=columns,
        notes=(f"{target.task} of {', '.join(config.target)}: {target.reason}", *notes),
    )


def fit_columns(features: pa.Table, kinds: dict[str, Kind], rows: Rows) -> tuple[Columns, dict[str, str]]:
    """Fits the columns on some rows; returns them, and why others tell nothing, as `ColumnStatistics.result` does."""
    statistics = ColumnStatistics(kinds)
    for start in range(0, len(rows), CHUNK_ROWS):
        statistics.update(features.take(pa.array(rows[start : start + CHUNK_ROWS])))
    return statistics.result()


def _feature_names(table: pa.Table, config: TableConfig) -> list[str]:
    """Checks all names of the configuration."""
    used = {
        "target": config.target,
        "features": config.features or (),
        "drop": config.drop,
        "weight": () if config.weight is None else (config.weight,),
        "split": () if config.split is None else (config.split,),
    }
    place: dict[str, str] = {}
    for flag, names in used.items():
        for name in names:
            if name not in table.column_names:
                shown = ", ".join(table.column_names[:20]) + (", ..." if len(table.column_names) > 20 else "")
                raise DataError(
                    f"--{flag} {name!r} is no column{did_you_mean(name, table.column_names)}: expected one of {shown}. "
                    f"Correct --{flag}."
                )
            if name in place:
                raise DataError(
                    f"column {name!r} has two roles: expected one, received --{place[name]} and --{flag}. Remove one."
                )
            place[name] = flag
    others = [name for name in table.column_names if name not in place]
    features = list(config.features) if config.features is not None else others
    if not features:
        raise DataError(
            f"no column is left to predict {', '.join(config.target)} from: expected 1 or more, received "
            f"{', '.join(table.column_names)}, all of them target, dropped, weight or split. Drop fewer."
        )
    return features


def _kinds(features: pa.Table, config: TableConfig) -> dict[str, Kind]:
    kinds: dict[str, Kind] = {}
    for name in features.column_names:
        column = features[name]
        kind = kind_of(column.type)
        if kind is None:
            raise DataError(
                f"column {name!r} is of type {column.type}: expected numbers, booleans, dates or texts, received "
                f"{len(column):,} rows of values that no model takes. Convert it, or leave it out by --drop."
            )
        kinds[name] = kind
        if kind in ("number", "boolean"):
            # Before anything is fitted, for infinite numbers.
            to_numbers(name, column)
    return kinds


def _check_leakage(features: pa.Table, table: pa.Table, config: TableConfig) -> list[str]:
    notes = []
    for name in features.column_names:
        for target in config.target:
            how = tells_target(features[name], table[target])
            if how is None:
                continue
            if config.features is None:
                raise DataError(
                    f"column {name!r} {how}, {target!r}, in all {len(features):,} rows: expected features that are "
                    f"known before the target, received {examples(features[name])}. Leave it out by --drop, or take it "
                    "by --features."
                )
            notes.append(f"{name!r} {how}, {target!r}, and is taken because --features names it")
    return notes


def _split(table: pa.Table, target: Target, config: TableConfig) -> tuple[Rows, Rows, Rows]:
    if config.split is not None:
        return split_by_column(table[config.split], config.split)
    return split_at_random(
        target,
        config.target[0],
        validation_fraction=config.validation_fraction,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
    )


def _weights(column: pa.ChunkedArray, name: str, splits: Iterable[Rows]) -> npt.NDArray[np.float32]:
    weights = to_numbers(name, column)
    for what, is_wrong in (("missing", np.isnan(weights)), ("negative", weights < 0)):
        wrong = np.flatnonzero(is_wrong)
        if len(wrong):
            received = "" if what == "missing" else f" {', '.join(f'{value:g}' for value in weights[wrong[:3]])}"
            raise DataError(
                f"--weight column {name!r} is {what} in {len(wrong):,} of {len(weights):,} rows: expected 0 or more, "
                f"received{received or ' none'}, the first in row {wrong[0] + 1}. Correct or remove these rows."
            )
    for split, rows in zip(SPLITS, splits, strict=True):
        if not weights[rows].any():
            raise DataError(
                f"--weight column {name!r} is 0 in all {len(rows):,} rows of the {split} split: expected some above 0. "
                "Correct it."
            )
        # The learning rate then means the same for weights of any size, and a loss is the weighted mean.
        weights[rows] /= weights[rows].mean()
    return weights.astype(np.float32)


def _left_out(columns: Columns, useless: dict[str, str], config: TableConfig) -> list[str]:
    if config.features is not None and useless:
        name, reason = next(iter(useless.items()))
        raise DataError(
            f"column {name!r} of --features tells nothing: expected values that differ and repeat, received {reason}. "
            "Leave it out of --features."
        )
    if not columns.columns:
        name, reason = next(iter(useless.items()))
        raise DataError(
            f"no column is left to predict from: expected 1 or more, received {len(useless)} that tell nothing, such "
            f"as {name!r}: {reason}. Add columns."
        )
    return [f"left out {name!r}: {reason}" for name, reason in useless.items()]
