"""Features that tell the target: copies of it, in the same or in another unit, or under other names."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from annlib.data.conversion import kind_of, to_numbers

# A copy is seldom found in the whole column that is not found in so many rows.
_FIRST_ROWS = 2_000
_SAME = 1e-12


def tells_target(feature: pa.ChunkedArray, target: pa.ChunkedArray) -> str | None:
    """Returns how a feature tells the target, in words; None where it does not.

    That is: it equals the target; it is a linear function of it, such as another unit; or its values and the target's
    correspond one to one, each of them in 2 rows or more on average.
    """
    for rows in (min(_FIRST_ROWS, len(target)), len(target)):
        found = _compare(feature.slice(0, rows), target.slice(0, rows), len(target))
        if found is None:
            return None
    return found


def _compare(feature: pa.ChunkedArray, target: pa.ChunkedArray, num_rows: int) -> str | None:
    if feature.type == target.type and feature.equals(target):
        return "equals the target"
    kinds = (kind_of(feature.type), kind_of(target.type))
    if kinds == ("number", "number"):
        x, y = to_numbers("feature", feature), to_numbers("target", target)
        if np.array_equal(x, y):
            return "equals the target"
        if _is_linear(x, y):
            return "is the target in another unit"
    return _one_to_one(feature, target, num_rows)


def _is_linear(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> bool:
    if not np.isfinite(x).all() or x.min() == x.max() or y.min() == y.max() or len(np.unique(y)) < 3:
        return False
    # Of the smallest numbers, the squares are 0.
    x, y = (values / np.abs(values).max() for values in (x - x.mean(), y - y.mean()))
    return bool(1 - (x @ y) ** 2 / ((x @ x) * (y @ y)) < _SAME)


def _one_to_one(feature: pa.ChunkedArray, target: pa.ChunkedArray, num_rows: int) -> str | None:
    codes, values = pd.factorize(feature.to_pandas(), use_na_sentinel=False)
    target_codes, target_values = pd.factorize(target.to_pandas())
    if len(values) != len(target_values) or len(values) > num_rows / 2:
        return None
    pairs = len(np.unique(codes.astype(np.int64) * len(target_values) + target_codes))
    return "corresponds to the target one to one" if pairs == len(values) else None
