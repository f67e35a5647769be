"""Checks of a table's columns against the configuration, and what a user should know about them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from annlib.config import did_you_mean
from annlib.data.columns import Columns, Kind
from annlib.data.conversion import examples, kind_of, to_numbers
from annlib.data.names import separator_advice
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.hints import is_unnamed
from annlib.data.own_table.leakage import tells_target
from annlib.data.own_table.splitting import SPLITS
from annlib.errors import DataError


def feature_names(column_names: Sequence[str], config: TableConfig) -> list[str]:
    """Returns the columns to predict from.

    Raises:
        DataError: a name of the configuration is no column, has two roles, or no column is left.
    """
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
            if name not in column_names:
                more = ", ..." if len(column_names) > 20 else ""
                raise DataError(
                    f"--{flag} {name!r} is no column{did_you_mean(name, column_names)}: expected one of "
                    f"{_shown(column_names[:20])}{more}. "
                    f"Correct --{flag}{separator_advice(column_names)}."
                )
            if name in place:
                raise DataError(
                    f"column {name!r} has two roles: expected one, received --{place[name]} and --{flag}. Remove one."
                )
            place[name] = flag
    others = [name for name in column_names if name not in place and not is_unnamed(name)]
    features = list(config.features) if config.features is not None else others
    if not features:
        raise DataError(
            f"no column is left to predict {', '.join(config.target)} from: expected 1 or more, received "
            f"{_shown(column_names)}, all of them target, dropped, weight, split or without a name. Drop fewer."
        )
    return features


def _shown(column_names: Sequence[str]) -> str:
    return ", ".join(name or "''" for name in column_names)


def used_names(column_names: Sequence[str], config: TableConfig) -> list[str]:
    """Returns the columns that are read: those to predict from, then the others of `other_names`.

    Raises:
        DataError: as `feature_names` raises it.
    """
    return [*feature_names(column_names, config), *other_names(config)]


def other_names(config: TableConfig) -> tuple[str, ...]:
    """Returns the target columns, that of the weights and that of the splits."""
    return (*config.target, *(name for name in (config.weight, config.split) if name is not None))


def check_type(field: pa.Field, num_rows: int) -> Kind:
    """Returns what a feature holds; raises DataError where no model takes it."""
    kind = kind_of(field.type)
    if kind is None:
        raise DataError(
            f"column {field.name!r} is of type {field.type}: expected numbers, booleans, dates or texts, received "
            f"{num_rows:,} rows of values that no model takes. Convert it, or leave it out by --drop."
        )
    return kind


def check_leakage(features: pa.Table, table: pa.Table, config: TableConfig) -> list[str]:
    """Returns notes on features that tell the target.

    Raises:
        DataError: one does, and the configuration does not name it.
    """
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


def check_weights(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """Returns the weights of rows.

    Raises:
        DataError: one is missing, negative or no number.
    """
    if kind_of(column.type) is None:
        raise DataError(
            f"--weight column {name!r} is of type {column.type}: expected numbers of 0 or more, received "
            f"{len(column):,} rows of other values. Convert it, or give another --weight."
        )
    weights = to_numbers(name, column)
    for what, is_wrong in (("missing", np.isnan(weights)), ("negative", weights < 0)):
        wrong = np.flatnonzero(is_wrong)
        if len(wrong):
            received = "" if what == "missing" else f" {', '.join(f'{value:g}' for value in weights[wrong[:3]])}"
            raise DataError(
                f"--weight column {name!r} is {what} in {len(wrong):,} of {len(weights):,} rows: expected 0 or more, "
                f"received{received or ' none'}, the first in row {wrong[0] + 1}. Correct or remove these rows."
            )
    return weights


def check_sums_of_weights(sums: Sequence[float], sizes: Sequence[int], name: str) -> None:
    """Raises DataError where all weights of a split are 0."""
    for split, total, size in zip(SPLITS, sums, sizes, strict=True):
        if not total:
            raise DataError(
                f"--weight column {name!r} is 0 in all {size:,} rows of the {split} split: expected some above 0. "
                "Correct it."
            )


def left_out(columns: Columns, useless: dict[str, str], config: TableConfig) -> list[str]:
    """Returns notes on columns that tell nothing.

    Raises:
        DataError: the configuration names one of them, or no other column is left.
    """
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
