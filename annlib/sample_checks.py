"""What samples have to be for a model: named columns, shapes, types, finite numbers. No TensorFlow, no pandas."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from annlib.data.names import check_different, check_separator, separator_advice
from annlib.errors import DataError, quoted
from annlib.signature import Signature

Array = npt.NDArray[Any]
_NPY_MAGIC = b"\x93NUMPY"


def check_takes_tables(path: Path, signature: Signature) -> None:
    """Raises DataError where the model of the signature has no named features."""
    if signature.feature_names is None:
        raise DataError(
            f"{path} is a table, and the model takes no named features: expected samples of shape "
            f"{signature.input_shape}, received {path.suffix}. Give them as .npy{_or_images(signature)}."
        )


def check_takes_arrays(path: Path, signature: Signature) -> None:
    """Raises DataError where the model of the signature takes raw columns by name."""
    if signature.columns is not None:
        raise DataError(
            f"{path} is an array, and the model takes columns by name: expected a table with "
            f"{', '.join(signature.columns.raw_names)}, received {path.suffix}. Give it as .csv or .parquet."
        )


def check_columns(path: Path, columns: list[str], signature: Signature) -> tuple[str, ...]:
    """Returns the names of the features; raises DataError where one is not in the table, or a name is there twice."""
    names = (signature.feature_names or ()) if signature.columns is None else signature.columns.raw_names
    check_different(path, columns)
    missing = [name for name in names if name not in columns]
    if missing:
        if path.suffix == ".csv":
            check_separator(path, columns)
        raise DataError(
            f"{path} lacks the columns {', '.join(missing)}: expected {', '.join(names)}, received "
            f"{', '.join(columns) or 'none'}. Add or rename them{separator_advice(columns)}."
        )
    return names


def csv_names(path: Path) -> list[str]:
    """Returns the names of a CSV file's columns.

    Raises:
        DataError: it has none.
        OSError, UnicodeDecodeError, csv.Error: it cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(filter(None, csv.reader(file)), None)
    if names is None:
        raise DataError(f"{path} is empty: expected a line of names and rows, received none. Give another file.")
    return names


@contextlib.contextmanager
def errors_of_raw_columns(path: Path) -> Iterator[None]:
    """Turns what Arrow raises of columns that cannot be converted into a DataError of one line."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise unreadable(path, "numbers, booleans, dates or texts as in the training", error) from None


def open_array(path: Path, signature: Signature, *, mmap_mode: Literal["r"] | None = None) -> Array:
    """Returns the array of an `.npy` file, shape (n, *input_shape), with n of 0 too; its numbers are not checked.

    Raises:
        DataError: it is unreadable, or has another shape or type than the model takes.
    """
    try:
        with path.open("rb") as file:
            # NumPy would say of any other file that it may be a pickle.
            if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                raise ValueError("another kind of file")
        x: Array = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise unreadable(path, "an array of numbers that numpy.save wrote", error) from None
    if x.dtype.kind not in "biuf":
        raise DataError(f"{path} is not numeric: expected numbers, received dtype {x.dtype}. Convert it first.")
    if x.ndim == 0 or x.shape[1:] != signature.input_shape:
        raise another_shape(path, x, signature)
    if signature.input_dtype == "uint8" and x.dtype != np.uint8:
        raise DataError(
            f"{path} holds no pixels: expected dtype uint8, received {x.dtype}. Convert it with x.astype('uint8')."
        )
    return x


def another_shape(path: Path, x: Array, signature: Signature) -> DataError:
    """Returns the error of an array that the model cannot take."""
    sizes = ", ".join(str(size) for size in signature.input_shape)
    return DataError(
        f"{path} has another shape: expected (n, {sizes}) with 1 sample or more, received {x.shape}. Reshape it."
    )


def column_names(signature: Signature) -> tuple[str, ...]:
    """Returns the names of the features, or their numbers from 0 where they have none."""
    return signature.feature_names or tuple(str(index) for index in range(signature.input_shape[0]))


def no_finite_number(name: str, value: Any, signature: Signature, *, place: str = "") -> str:
    """Returns what is wrong with a value of a feature: text, missing (None, NaN, empty), infinite or too large."""
    is_missing = value is None or (value.strip() == "" if isinstance(value, str) else bool(value != value))
    shown = "no value" if is_missing else quoted(value)
    return f"column {name!r}{place}: expected a number that fits into {signature.input_dtype}, received {shown}"


def another_type(path: Path, name: str, received: object) -> DataError:
    """Returns the error of a feature that is neither numbers nor text."""
    return DataError(
        f"{path} has a column {name!r} of another type: expected numbers, received {received}. Convert it."
    )


def unreadable(path: Path, expected: str, error: Exception) -> DataError:
    """Returns the error of a file that cannot be read."""
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
    return DataError(f"{path} cannot be read: expected {expected}, received: {reason}. Correct or replace it.")


def _or_images(signature: Signature) -> str:
    return " or PNG images" if signature.input_dtype == "uint8" and len(signature.input_shape) == 2 else ""
