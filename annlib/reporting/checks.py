"""Checks of the arrays that pictures are drawn from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from annlib.errors import DataError

Array = npt.NDArray[Any]


def check_labels(name: str, labels: npt.ArrayLike, class_names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Returns the labels as int64, shape (n,), n at least 1, each with a class name.

    Raises:
        DataError: they have another shape, are not integers or booleans, or have no class name.
    """
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) == 0:
        raise DataError(
            f"{name} has the wrong shape; expected (n,), n at least 1; received {array.shape}; "
            "give one class number per example"
        )
    if array.dtype.kind not in "biu":
        raise DataError(
            f"{name} has the wrong type; expected integers; received {array.dtype}; give the numbers of the classes"
        )
    if array.min() < 0 or array.max() >= len(class_names):
        raise DataError(
            f"{name} has labels without a class name; expected 0 to {len(class_names) - 1}; received {array.min()} "
            f"to {array.max()}; check the labels or name all classes"
        )
    return array.astype(np.int64)


def check_images(images: npt.ArrayLike) -> Array:
    """Returns the images, shape (n, height, width) for grey or (n, height, width, 3) for red, green and blue.

    Raises:
        DataError: they are not such images, or not finite numbers.
    """
    array = np.asarray(images)
    if array.ndim == 4 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[-1] != 3) or array.size == 0:
        raise DataError(
            "images have the wrong shape; expected (n, height, width), (n, height, width, 1) or (n, height, width, 3), "
            f"n at least 1; received {np.shape(images)}; reshape them"
        )
    return check_finite("images", array)


def check_finite(name: str, array: npt.ArrayLike) -> Array:
    """Returns the array if it holds finite numbers only.

    Raises:
        DataError: it does not.
    """
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name} is not numeric; expected numbers; received dtype {array.dtype}; convert it first")
    if not np.isfinite(array).all():
        num_bad = np.count_nonzero(~np.isfinite(array))
        raise DataError(
            f"{name} is not finite; expected numbers; received {num_bad} NaN or infinite; check data and model"
        )
    return array


def check_same_length(**arrays: Array) -> None:
    """Raises DataError if the arrays differ in length."""
    lengths = [len(array) for array in arrays.values()]
    if len(set(lengths)) > 1:
        raise DataError(
            f"{' and '.join(arrays)} differ in length; expected one of each per example; received "
            f"{' and '.join(map(str, lengths))}; check how they were made"
        )
