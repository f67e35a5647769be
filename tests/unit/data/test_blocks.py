"""Arrays on disk: what is written is read, in ranges, and a half-written one is none."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from annlib.data.blocks import Blocks, BlockWriter
from annlib.errors import DataError, StorageError

X = np.arange(60, dtype=np.float32).reshape(20, 3)
Y = np.arange(20, dtype=np.int32)


def write(directory: Path) -> Blocks:
    with BlockWriter(directory) as writer:
        for start in range(0, 20, 7):
            writer.append(X[start : start + 7], Y[start : start + 7])
        return writer.finish()


def test_ranges_come_one_after_the_other_with_their_types(tmp_path: Path) -> None:
    blocks = write(tmp_path / "blocks")
    assert (len(blocks), blocks.row_bytes) == (20, 16)
    x, y = blocks.read([(18, 20), (0, 1), (5, 9)])
    rows = [18, 19, 0, 5, 6, 7, 8]
    np.testing.assert_array_equal(x, X[rows])
    np.testing.assert_array_equal(y, Y[rows])
    assert (x.dtype, y.dtype) == (np.float32, np.int32)


def test_columns_of_a_transposed_array_are_written_in_order(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "blocks") as writer:
        writer.append(np.asfortranarray(X))
        blocks = writer.finish()
    np.testing.assert_array_equal(blocks.read([(0, 20)])[0], X)


def test_what_is_not_finished_cannot_be_opened(tmp_path: Path) -> None:
    write(tmp_path / "blocks")
    with BlockWriter(tmp_path / "blocks") as writer:
        writer.append(X, Y)
    with pytest.raises(StorageError, match="expected prepared samples"):
        Blocks.open(tmp_path / "blocks")


def test_a_truncated_array_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "blocks")
    path = tmp_path / "blocks/array-1.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"expected arrays of \[240, 80\] bytes, received \[240, 79\]"):
        Blocks.open(tmp_path / "blocks")


def test_an_array_that_goes_away_is_told(tmp_path: Path) -> None:
    blocks = write(tmp_path / "blocks")
    (tmp_path / "blocks/array-0.bin").write_bytes(b"x")
    with pytest.raises(StorageError, match="expected 20 rows, received the end of the file"):
        blocks.read([(0, 20)])
    (tmp_path / "blocks/array-0.bin").unlink()
    with pytest.raises(StorageError, match="received No such file"):
        blocks.read([(0, 20)])


@pytest.mark.parametrize(
    "arrays", [(X, Y[:3]), (X[:, :2], Y), (X.astype(np.float64), Y), (X,)], ids=["length", "shape", "type", "number"]
)
def test_rows_that_do_not_fit_are_refused(tmp_path: Path, arrays: tuple[np.ndarray, ...]) -> None:
    with BlockWriter(tmp_path / "blocks") as writer:
        writer.append(X, Y)
        with pytest.raises(DataError, match="rows do not fit those before"):
            writer.append(*arrays)


def test_rows_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "blocks") as writer, pytest.raises(DataError, match=r"received object of shape \(2,\)"):
        writer.append(["a", None])


def test_tables_and_lists_are_taken_as_arrays(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "blocks") as writer:
        writer.append(pd.DataFrame(X), Y.tolist())
        x, y = writer.finish().read([(0, len(X))])
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_no_rows_are_refused(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "blocks") as writer, pytest.raises(DataError, match="there are no samples"):
        writer.finish()
