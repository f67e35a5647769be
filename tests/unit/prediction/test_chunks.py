"""Reading in chunks: the numbers and reasons of bad rows, types, and files that are no files."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annlib.data.columns import Column, Columns
from annlib.data.conversion import WrongValues
from annlib.errors import DataError
from annlib.prediction import chunks
from annlib.prediction.chunks import Chunk, read_chunks
from annlib.signature import Signature

FEATURES = Signature(
    task="regression",
    output="value",
    feature_names=("a", "b", "c"),
    target_name="price",
    input_shape=(3,),
    input_dtype="float32",
)
IMAGES = Signature(
    task="classification",
    output="probabilities",
    class_names=("dark", "bright"),
    input_shape=(2, 3),
    input_dtype="uint8",
    input_max=200,
)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks of about 400 bytes, chunks of 10 rows."""
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1600)
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 10)
    return


def read(path: Path, signature: Signature = FEATURES) -> tuple[np.ndarray, list[int], list[tuple[int, str]], pa.Table]:
    """Returns features, numbers, rejected rows and columns of all chunks."""
    found = list(read_chunks(path, signature))
    rejected = [row for chunk in found for row in chunk.rejected]
    x = np.concatenate([chunk.x for chunk in found])
    numbers = [int(number) for chunk in found for number in chunk.numbers]
    return x, numbers, rejected, pa.Table.from_batches([chunk.table for chunk in found])


def test_rows_of_a_csv_file_that_are_no_numbers_are_set_aside_with_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        'note,a,b,c\n"x, y",1,2,3\nkept,x,2,3\n\n"two\nlines",1, 2 ,3e0\n,1,,3\n7,8\n'
        f",inf,1,1\n,1,nan,1\n1,2,3,4,5\n,1,1,1e39\n,4,5,6\n,1,1,{'x' * 50}\n"
    )
    x, numbers, rejected, table = read(tmp_path / "in.csv")
    assert x.tolist() == [[1, 2, 3], [1, 2, 3], [4, 5, 6]]
    assert x.dtype == np.float32
    assert numbers == [1, 3, 10]
    wanted = "expected a number that fits into float32, received"
    assert sorted(rejected) == [
        (2, f"column 'a': {wanted} 'x'"),
        (4, f"column 'b': {wanted} no value"),
        (5, "expected 4 values, as many as names, received 2"),
        (6, f"column 'a': {wanted} 'inf'"),
        (7, f"column 'b': {wanted} 'nan'"),
        (8, "expected 4 values, as many as names, received 5"),
        (9, f"column 'c': {wanted} '1e39'"),
        (11, f"column 'c': {wanted} '{'x' * 40}…'"),
    ]
    assert table.column("note").to_pylist() == ["x, y", "two\nlines", ""]
    assert [str(field.type) for field in table.schema] == ["string", "double", "double", "double"]


@pytest.mark.usefixtures("small_chunks")
def test_numbers_are_right_in_many_blocks(tmp_path: Path) -> None:
    """Every 7th row has a value too few, every 11th is no number; what is left carries its own number."""
    lines = ["a,b,c"]
    for number in range(1, 1001):
        lines.append("1,2" if number % 7 == 0 else f"{number},x,0" if number % 11 == 0 else f"{number},0,0")
    (tmp_path / "in.csv").write_text("\n".join(lines) + "\n")
    assert len(list(read_chunks(tmp_path / "in.csv", FEATURES))) > 10
    x, numbers, rejected, table = read(tmp_path / "in.csv")
    expected = [number for number in range(1, 1001) if number % 7 and number % 11]
    assert numbers == expected
    assert x[:, 0].tolist() == expected
    assert table.column("a").to_pylist() == expected
    assert sorted(number for number, _ in rejected) == [n for n in range(1, 1001) if n % 7 == 0 or n % 11 == 0]


def test_a_quote_inside_a_ragged_row_is_no_open_one(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('a,b,c\n5" pipe,2\n1,2,3\n1,"2"\n4,5,6\n1,"2')
    _, numbers, rejected, _ = read(tmp_path / "in.csv")
    assert numbers == [2, 4]
    assert [number for number, _ in rejected] == [1, 3, 5]


def test_ragged_rows_alone_are_all_set_aside(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a,b,c\n1,2\n1,2,3,4\n")
    x, _, rejected, table = read(tmp_path / "in.csv")
    assert x.shape == (0, 3)
    assert [number for number, _ in rejected] == [1, 2]
    assert table.schema.names == ["a", "b", "c"]


@pytest.mark.usefixtures("small_chunks")
def test_a_parquet_file_keeps_its_types_and_order(tmp_path: Path) -> None:
    table = pa.table(
        {
            "when": pa.array([None, *range(49)], pa.timestamp("ms")),
            "c": pa.array([True] * 50),
            "a": pa.array(range(50), pa.int8()),
            "b": pa.array([f"{i}.5" for i in range(50)]).dictionary_encode(),
            "tags": pa.array([["x"]] * 50),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    x, numbers, rejected, found = read(tmp_path / "in.parquet")
    np.testing.assert_array_equal(x, np.column_stack([np.arange(50), np.arange(50) + 0.5, np.ones(50)]))
    assert (numbers, rejected) == (list(range(1, 51)), [])
    assert found.drop_columns("b").equals(table.drop_columns("b"))
    assert found.column("b").to_pylist() == [i + 0.5 for i in range(50)]


def test_bad_rows_of_a_parquet_file(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0, None, 3.0, 4.0], "b": [1e39, 1, 1, 1], "c": pa.array([1, 2, None, 4], pa.int64())})
    pq.write_table(table, tmp_path / "in.parquet")
    x, numbers, rejected, found = read(tmp_path / "in.parquet")
    assert x.tolist() == [[4, 1, 4]]
    assert numbers == [4]
    wanted = "expected a number that fits into float32, received"
    assert rejected == [
        (1, f"column 'b': {wanted} 1e+39"),
        (2, f"column 'a': {wanted} no value"),
        (3, f"column 'c': {wanted} no value"),
    ]
    assert found.to_pylist() == [{"a": 4.0, "b": 1.0, "c": 4}]


def test_an_unnamed_index_is_left_out(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [0, 1], "b": [1, 1], "c": [1, 1]})
    table[table.a > 0].to_parquet(tmp_path / "in.parquet")
    assert read(tmp_path / "in.parquet")[3].schema.names == ["a", "b", "c"]


@pytest.mark.usefixtures("small_chunks")
def test_an_array_comes_in_chunks_and_bright_images_are_set_aside(tmp_path: Path) -> None:
    images = np.zeros((25, 2, 3), np.uint8)
    images[[3, 17]] = [[[0, 201, 0]], [[0, 0, 255]]]
    np.save(tmp_path / "in.npy", images)
    x, numbers, rejected, table = read(tmp_path / "in.npy", IMAGES)
    assert x.shape == (23, 2, 3)
    assert rejected == [
        (4, "expected pixels of 0 to 200, received up to 201"),
        (18, "expected pixels of 0 to 200, received up to 255"),
    ]
    assert table.column("index").to_pylist() == [number - 1 for number in numbers]


def test_bad_numbers_of_an_array_are_set_aside(tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.array([[1, 2, 3], [1, np.nan, 3], [-np.inf, 0, 0]]))
    _, numbers, rejected, _ = read(tmp_path / "in.npy")
    assert numbers == [1]
    wanted = "expected a number that fits into float32, received"
    assert rejected == [(2, f"column 'b': {wanted} no value"), (3, f"column 'a': {wanted} -inf")]


@pytest.mark.parametrize("kind", ["csv", "parquet", "npy"])
def test_a_file_without_rows_gives_one_chunk_without(tmp_path: Path, kind: str) -> None:
    empty = pd.DataFrame({"a": [], "b": [], "c": []}, dtype=float)
    if kind == "csv":
        empty.to_csv(tmp_path / "in.csv", index=False)
    elif kind == "parquet":
        empty.to_parquet(tmp_path / "in.parquet")
    else:
        np.save(tmp_path / "in.npy", empty.to_numpy())
    (chunk,) = read_chunks(tmp_path / f"in.{kind}", FEATURES)
    assert isinstance(chunk, Chunk)
    assert chunk.x.shape == (0, 3)
    assert chunk.table.num_rows == 0


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("in.csv", b"", "is empty"),
        ("in.csv", b"\n\n", "expected a line of names"),
        ("in.csv", b"a,c\n1,2\n", "lacks the columns b"),
        ("in.csv", b"a\tb\tc\n1,5\t2\t3\n", "has one column, 'a.tb.tc': expected values separated by commas"),
        ("in.csv", b"a,b,c,a\n1,2,3,4\n", "two columns of one name"),
        ("in.csv", b"a,b,c,predicted_price\n1,2,3,4\n", "already has the columns predicted_price"),
        ("in.csv", b"a,b,c\n\xff\xfe,2,3\n", "cannot be read: expected a CSV file in UTF-8"),
        ("in.csv", b"\xff\xfe,a,b,c\n", "cannot be read: expected a CSV file in UTF-8"),
        ("in.csv", b'a,b,c\n1,2,3\n"1,2,3\n4,5,6\n7,8,9\n', 'a quote " that is not closed, in \'"1,2,3'),
        ("in.csv", b'a,b,c\r\n1,"2,3\r\n4,5,6', 'a quote " that is not closed'),
        ("in.parquet", b"PAR1 a,b,c", "cannot be read: expected a Parquet file"),
        ("in.npy", b"PK\x03\x04", "cannot be read: expected an array"),
        ("in.json", b"{}", "is of an unknown kind: expected .csv, .parquet, .npy, received .json"),
    ],
)
def test_a_bad_file_is_told_in_one_line(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=expected) as error:
        list(read_chunks(tmp_path / name, FEATURES))
    assert "\n" not in str(error.value)


def test_a_parquet_file_that_is_damaged_inside_is_told(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(5000, 3))
    pd.DataFrame(values, columns=["a", "b", "c"]).to_parquet(tmp_path / "in.parquet")
    content = bytearray((tmp_path / "in.parquet").read_bytes())
    content[4:2000] = bytes(1996)
    (tmp_path / "in.parquet").write_bytes(content)
    with pytest.raises(DataError, match="expected a Parquet file"):
        list(read_chunks(tmp_path / "in.parquet", FEATURES))


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": [[1]], "c": [1]}), tmp_path / "in.parquet")
    with pytest.raises(DataError, match="has a column 'b' of another type: expected numbers, received list"):
        list(read_chunks(tmp_path / "in.parquet", FEATURES))


def test_a_table_for_a_model_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match="takes no named features"):
        list(read_chunks(tmp_path / "in.csv", IMAGES))


FITTED = Columns(
    columns=(
        Column(name="size", kind="number", means=(50.0,), scales=(10.0,)),
        Column(name="new", kind="boolean", means=(0.5,), scales=(0.5,)),
        Column(name="day", kind="date", parts=("month",), means=(6.0,), scales=(2.0,)),
        Column(name="colour", kind="category", values=("red", "blue"), has_missing=True),
    )
)
TABLE = Signature(
    task="regression",
    output="value",
    feature_names=FITTED.encoded_names,
    target_name="price",
    input_shape=(4,),
    input_dtype="float32",
    columns=FITTED,
)


def test_raw_rows_are_encoded_and_bad_ones_set_aside(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        "id,colour,size,new,day\n"
        "1,red,60,true,2024-08-01\n"
        "2,blue,large,false,2024-06-01\n"
        "3,green,,,\n"
        "4,,40,maybe,2024-06-01\n"
        "5,red,40,0,2024-02-30\n"
        "6,red,inf,0,2024-02-29\n"
        "7,red\n"
        "8,blue,x,y,z\n"
        "9,,40,0,2024-02-29T10:00:00\n"
        f"10,blue,{'x' * 50},0,2024-02-29\n"
    )
    dates = "expected ISO 8601 dates of the calendar such as 2024-01-31 or 2024-01-31T12:00:00"
    x, numbers, rejected, table = read(tmp_path / "in.csv", TABLE)
    # Codes: 0 unseen, 1 missing, then red and blue.
    assert x.tolist() == [[1, 1, 1, 2], [0, 0, 0, 0], [-1, -1, -2, 1]]
    assert numbers == [1, 3, 9]
    assert table["id"].to_pylist() == ["1", "3", "9"]
    assert sorted(rejected) == [
        (2, "column 'size': expected numbers, received 'large'"),
        (4, "column 'new': expected true or false, received 'maybe'"),
        (5, f"column 'day': {dates}, received '2024-02-30'"),
        (6, "column 'size': expected finite numbers up to 3.4e+38, received inf"),
        (7, "expected 5 values, as many as names, received 2"),
        (8, "column 'size': expected numbers, received 'x'"),
        (10, f"column 'size': expected numbers, received '{'x' * 40}…'"),
    ]


def test_raw_rows_of_a_parquet_file_keep_their_types(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"size": [60, None], "new": [True, None], "day": pd.to_datetime(["2024-08-01", None]), "colour": ["red", None]}
    )
    frame.to_parquet(tmp_path / "in.parquet")
    x, _, rejected, table = read(tmp_path / "in.parquet", TABLE)
    assert x.tolist() == [[1, 1, 1, 2], [0, 0, 0, 1]]
    assert rejected == []
    assert table.schema.field("size").type == pa.float64()


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("day", [None, None], ""),
        ("day", [np.nan, np.nan], ""),
        ("day", [20240801, None], "expected dates, received 20240801"),
        ("day", [True, None], "expected dates, received True"),
        ("day", [datetime.time(9), None], "expected dates, received datetime.time(9, 0)"),
        ("size", [datetime.date(2024, 8, 1), None], "expected numbers, received datetime.date(2024, 8, 1)"),
    ],
)
def test_a_raw_column_of_another_kind_is_told_and_its_missing_values_are_taken(
    tmp_path: Path, name: str, values: list[object], reason: str
) -> None:
    rows = {"size": [60, 60], "new": [True, True], "day": pa.array([datetime.date(2024, 8, 1)] * 2)}
    table = pa.table({**rows, "colour": ["red", "red"], name: pa.array(values, from_pandas=False)})
    if values == [None, None]:
        table = table.set_column(2, "day", pa.array(values, pa.float64()))
    pq.write_table(table, tmp_path / "in.parquet")
    x, _, rejected, _ = read(tmp_path / "in.parquet", TABLE)
    sound = [1, 1, 0, 2] if name == "day" else [0, 1, 1, 2]
    assert x.tolist() == [sound] * (1 if reason else 2)
    assert rejected == ([(1, f"column {name!r}: {reason}")] if reason else [])


def test_an_error_that_names_no_row_ends_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(columns: Columns, table: pa.Table) -> None:
        raise WrongValues("size", "numbers", table["size"], np.zeros(len(table), np.bool_))

    monkeypatch.setattr(chunks, "encode", fail)
    (tmp_path / "in.csv").write_text("colour,size,new,day\nred,60,true,2024-08-01\n")
    with pytest.raises(DataError, match=r"in\.csv: column 'size' has values of another kind"):
        read(tmp_path / "in.csv", TABLE)


def test_raw_columns_of_another_type_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"size": [[1]], "new": [True], "day": ["2024-08-01"], "colour": ["red"]})
    frame.to_parquet(tmp_path / "in.parquet")
    with pytest.raises(DataError, match=r"in.parquet cannot be read: expected numbers, booleans, dates or texts"):
        read(tmp_path / "in.parquet", TABLE)
    np.save(tmp_path / "in.npy", np.zeros((2, 4)))
    with pytest.raises(DataError, match="is an array, and the model takes columns by name: expected a table with size"):
        read(tmp_path / "in.npy", TABLE)
