"""Files of samples to predict: tables, arrays and images, checked against what the model takes. No TensorFlow."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annlib.data.columns import Columns
from annlib.errors import DataError
from annlib.sample_checks import (
    another_shape,
    another_type,
    check_columns,
    check_takes_arrays,
    check_takes_tables,
    column_names,
    csv_names,
    errors_of_raw_columns,
    no_finite_number,
    open_array,
    unreadable,
)
from annlib.signature import Signature

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
TABLE_ENDINGS = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Samples, and the table that predictions are added to.

    Args:
        x: shape (n, *input_shape), of the signature's type.
        table: n rows: all columns of a table of features; `index` for an array, from 0; `file` for images.
    """

    x: Array
    table: "pd.DataFrame"


def read_samples(path: Path, signature: Signature) -> Samples:
    """Reads the samples of a file or directory.

    - `.csv` (UTF-8, commas, a line of names first) or `.parquet`: the features by name, in any order, beside other
      columns. What a CSV holds stays as it is written there, to the last zero.
    - `.npy`: an array of shape (n, *input_shape); pixels are uint8.
    - `.png`, or a directory of them in the order of their names: images of 8 bits and the model's size; colours
      become grey by ITU-R 601-2, transparency is left out.

    Raises:
        DataError: the input is missing, unreadable or empty, of another form than the model takes, or a value is no
            finite number; names the first one.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist: expected samples to predict, received none. Correct the path.")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty: expected samples to predict, received 0 bytes. Give another file.")
    if path.is_dir():
        samples = _read_images(path, _image_files(path), signature)
    elif path.suffix in TABLE_ENDINGS:
        samples = _read_table(path, signature)
    elif path.suffix == ".npy":
        check_takes_arrays(path, signature)
        samples = _read_array(path, signature)
    elif path.suffix.lower() == ".png":
        samples = _read_images(path, [path], signature)
    else:
        raise DataError(
            f"{path} is of an unknown kind: expected .csv, .parquet, .npy, .png or a directory of PNG files, received "
            f"{path.suffix or 'no ending'}. Convert it."
        )
    if signature.input_max is not None and samples.x.max() > signature.input_max:
        raise DataError(
            f"{path} has pixels that the model never saw: expected 0 to {signature.input_max}, received up to "
            f"{samples.x.max()}. Scale the images as the training data."
        )
    return samples


# Tables


def _read_table(path: Path, signature: Signature) -> Samples:
    check_takes_tables(path, signature)
    table = _read_csv(path, signature) if path.suffix == ".csv" else _read_parquet(path)
    names = check_columns(path, list(table.columns), signature)
    if not len(table):
        raise DataError(f"{path} has no rows: expected samples to predict, received names only. Add rows.")
    if signature.columns is not None:
        return Samples(x=_encoded(path, table, signature.columns), table=table)
    features = np.column_stack([_numbers(path, table[name]) for name in names])
    texts = {index: table[name] for index, name in enumerate(names)}
    return Samples(x=_checked_floats(path, features, signature, names, texts), table=table)


def _encoded(path: Path, table: "pd.DataFrame", columns: Columns) -> Array:
    import pyarrow

    from annlib.data.encoding import encode

    with errors_of_raw_columns(path):
        try:
            return encode(columns, pyarrow.Table.from_pandas(table[list(columns.raw_names)], preserve_index=False))
        except DataError as error:
            raise DataError(f"{path}: {error}") from None


def _read_csv(path: Path, signature: Signature) -> "pd.DataFrame":
    import pandas as pd

    try:
        # Before the rows, which have other lengths where something else separates the values.
        check_columns(path, csv_names(path), signature)
        # As text, so that what is not a feature comes out as it went in. The names are taken from the first row,
        # because pandas renames those that come twice, and takes one more column in the rows for an index.
        rows = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, encoding="utf-8-sig", compression=None)
    except (OSError, ValueError, csv.Error) as error:
        raise unreadable(path, "a CSV file in UTF-8, with as many values in each row as names", error) from None
    # pandas fills up short rows, which then end with an empty value; long ones it refuses.
    if (rows.iloc[:, -1].fillna("") == "").any():
        _check_lengths(path, rows.shape[1])
    names = rows.iloc[0].fillna("").tolist()
    table = rows.iloc[1:].reset_index(drop=True)
    table.columns = pd.Index(names)
    return table


def _check_lengths(path: Path, num_names: int) -> None:
    with path.open(newline="", encoding="utf-8-sig") as file:
        # As pandas, which takes texts of any length.
        csv.field_size_limit(sys.maxsize)
        lengths = (len(row) for row in csv.reader(file) if row)
        for number, length in enumerate(lengths):
            if length < num_names:
                raise DataError(
                    f"{path}: row {number} is too short: expected {num_names} values, as many as names, received "
                    f"{length}. Correct the file, or give a glob, which sets such rows aside."
                )


def _read_parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        # pandas' own types would turn whole numbers with gaps into floating point.
        table = pd.read_parquet(path, dtype_backend="pyarrow")
    except (OSError, ValueError) as error:
        raise unreadable(path, "a Parquet file", error) from None
    is_column = any(name is not None for name in table.index.names)
    table = table.reset_index(drop=not is_column)
    table.columns = pd.Index([str(name) for name in table.columns])
    return table


def _numbers(path: Path, column: "pd.Series[Any]") -> npt.NDArray[np.float64]:
    """Returns a column as float64; NaN where there is no number, which `_checked_floats` reports."""
    import pandas as pd

    if pd.api.types.is_string_dtype(column):
        column = pd.to_numeric(column, errors="coerce")
    if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
        raise another_type(path, str(column.name), column.dtype)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


# Arrays and images


def _read_array(path: Path, signature: Signature) -> Samples:
    import pandas as pd

    x = open_array(path, signature)
    if len(x) == 0:
        raise another_shape(path, x, signature)
    if signature.input_dtype != "uint8":
        x = _checked_floats(path, x, signature, column_names(signature), {})
    return Samples(x=x, table=pd.DataFrame({"index": np.arange(len(x))}))


def _image_files(directory: Path) -> list[Path]:
    files = sorted(
        path for path in directory.iterdir() if path.suffix.lower() == ".png" and not path.name.startswith(".")
    )
    if not files:
        raise DataError(f"{directory} holds no images: expected .png files in it, received none. Correct the path.")
    return files


def _read_images(path: Path, files: list[Path], signature: Signature) -> Samples:
    import pandas as pd

    if signature.input_dtype != "uint8" or len(signature.input_shape) != 2:
        raise DataError(
            f"{path} holds images, and the model takes features: expected a table of "
            f"{', '.join(signature.feature_names or ()) or signature.input_shape}, received PNG. "
            "Give a .csv or .parquet."
        )
    height, width = signature.input_shape
    x = np.stack([_read_image(file, height, width) for file in files])
    return Samples(x=x, table=pd.DataFrame({"file": [file.name for file in files]}))


def _read_image(path: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != (width, height):
                raise DataError(
                    f"{path} has another size: expected {width} x {height} pixels, received {image.size[0]} x "
                    f"{image.size[1]}. Crop or resize it."
                )
            if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
                raise DataError(
                    f"{path} has more than 8 bits: expected 8 bits a pixel and channel, received mode {image.mode}. "
                    "Convert it to 8 bits."
                )
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise unreadable(path, "a whole PNG image", error) from None


# Both


def _checked_floats(
    path: Path, features: Array, signature: Signature, names: tuple[str, ...], texts: dict[int, "pd.Series[Any]"]
) -> Array:
    """Returns the features in the signature's type; `texts` are the columns they were read from."""
    import pandas as pd

    with np.errstate(over="ignore"):
        x = features.astype(signature.input_dtype)
    bad = np.argwhere(~np.isfinite(x))
    if not bad.size:
        return x
    row, column = (int(index) for index in bad[0][:2])
    value = texts[column].iloc[row] if column in texts else features[tuple(bad[0])]
    # pandas' own sign of a missing value is neither equal nor unequal to itself.
    value = None if pd.isna(value) else value
    reason = no_finite_number(names[column], value, signature, place=f", row {row + 1}")
    raise DataError(f"{path} has a value that is no finite number: {reason}. Correct or remove the row.")
