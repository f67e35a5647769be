"""Tables as data sets: tasks, splits, weights, files; nothing of validation and test gets into the preparation."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_tables import table

from annlib.data import Dataset
from annlib.data.own_table.files import find_table, read_table
from annlib.data.own_table.scanning import TableScan
from annlib.errors import DataError


@pytest.mark.parametrize(
    ("values", "task", "class_names"),
    [
        (np.linspace(0, 1, 40), "regression", None),
        (np.arange(40) % 25, "regression", None),
        (["yes", "no"] * 20, "binary", ("no", "yes")),
        ([True, False] * 20, "binary", ("false", "true")),
        ([0, 1] * 20, "binary", ("0", "1")),
        ([1.0, 2.5] * 20, "binary", ("1", "2.5")),
        ([3, 1, 2, 10] * 10, "multiclass", ("1", "2", "3", "10")),
        (["x", "y", "z", "Ü"] * 10, "multiclass", ("x", "y", "z", "Ü")),
    ],
)
def test_the_task_is_found_in_the_target(
    load: Any, values: Any, task: str, class_names: tuple[str, ...] | None
) -> None:
    frame = table(price=values)
    data = load(frame)
    assert (data.task, data.class_names) == (task, class_names)
    assert data.notes[0].startswith(f"{task} of price: ")
    y = np.array(all_of(data))
    if class_names is None:
        np.testing.assert_allclose(np.sort(y), np.sort(np.float32(values)))
    else:
        named = np.array(class_names)[y.astype(int)]
        expected = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
        assert sorted(named) == sorted(name.replace("True", "true").replace("False", "false") for name in expected)


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (["no"] * 30 + ["yes"] * 10, "binary of price: 2 different values, 'no', 'yes'; 'no' in 75.0% of the rows"),
        ([1, 2, 3, 3] * 10, "multiclass of price: 3 different whole numbers, 3 in 50.0% of the rows"),
    ],
)
def test_the_most_frequent_class_is_shown(load: Any, values: Any, note: str) -> None:
    assert load(table(price=values)).notes[0] == note


def test_several_targets_are_labels(load: Any) -> None:
    data = load(table(l1=[0, 1] * 20, l2=[True, True, False, False] * 10), target="l1,l2", drop="price")
    assert (data.task, data.class_names, data.train.y.shape) == ("multilabel", ("l1", "l2"), (24, 2))


def test_the_asked_for_task_wins(load: Any) -> None:
    assert load(table(price=[1, 2, 3, 4] * 10), task="regression").task == "regression"


def test_only_the_training_split_is_fitted_on(load: Any) -> None:
    fold = ["train"] * 20 + ["validation"] * 10 + ["test"] * 10
    frame = table(fold=fold)
    changed = frame.copy()
    changed.loc[20:, "size"] *= 1000
    changed.loc[20:, "colour"] = "violet"
    data, other = load(frame, split="fold"), load(changed, split="fold")
    assert data.columns == other.columns
    np.testing.assert_array_equal(data.train.x, other.train.x)
    np.testing.assert_allclose(data.columns.columns[0].means, frame["size"][:20].mean())
    np.testing.assert_allclose(data.columns.columns[0].scales, frame["size"][:20].std(ddof=0))
    assert (other.test.x[:, 1] == 0).all()


def test_a_split_by_column_keeps_the_rows_in_their_order(load: Any) -> None:
    frame = table(fold=["test", "train", "validation", "train"] * 10)
    data = load(frame, split="fold")
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(data, split).y, np.float32(frame["price"][frame["fold"] == split]))


def all_of(data: Dataset) -> list[float]:
    return np.concatenate([data.train.y, data.validation.y, data.test.y]).tolist()


def rows_of(data: Dataset) -> list[list[float]]:
    return [sorted(split.y.tolist()) for split in (data.train, data.validation, data.test)]


def test_a_random_split_is_that_of_its_seed_alone(load: Any) -> None:
    frame = table(100)
    first = rows_of(load(frame))
    assert [len(rows) for rows in first] == [60, 20, 20]
    assert sorted(all_of(load(frame))) == sorted(np.float32(frame["price"]).tolist())
    assert rows_of(load(frame, seed=7)) == first
    assert rows_of(load(frame, split_seed=7)) != first
    assert [len(rows) for rows in rows_of(load(frame, validation_fraction=0.1, test_fraction=0.3))] == [60, 10, 30]


def test_classes_have_their_share_in_every_split(load: Any) -> None:
    data = load(table(200, kind=["a"] * 140 + ["b"] * 57 + ["c"] * 3), target="kind")
    counts = [np.bincount(split.y, minlength=3).tolist() for split in (data.train, data.validation, data.test)]
    assert counts == [[84, 35, 1], [28, 11, 1], [28, 11, 1]]


def test_weights_have_the_mean_1_in_each_split(load: Any) -> None:
    frame = table(fold=["train", "train", "validation", "test"] * 10, w=np.arange(40))
    data = load(frame, split="fold", weight="w")
    assert data.columns.raw_names == ("size", "colour")
    expected = frame["w"][frame["fold"] == "train"]
    np.testing.assert_allclose(data.train.weight, expected / expected.mean(), rtol=1e-6)
    assert data.test.weight.mean() == pytest.approx(1)


def test_useless_columns_are_left_out_and_named(load: Any) -> None:
    data = load(table(same=1, none=np.nan, id=[f"i{i}" for i in range(40)]))
    assert data.columns.raw_names == ("size", "colour")
    assert [note.split(":")[0] for note in data.notes[1:]] == ["left out 'same'", "left out 'none'", "left out 'id'"]


def test_notes_show_the_beginning_of_long_texts(load: Any) -> None:
    long = "word " * 400
    notes = load(table(id=[f"{i:02} {long}" for i in range(40)], same=long, price=["a", long] * 20)).notes
    assert max(map(len, notes)) < 250
    assert all("…'" in note for note in notes)


def test_a_leak_that_was_asked_for_is_taken_and_named(load: Any) -> None:
    data = load(table(copy=table()["price"]), features="size,copy")
    assert data.columns.raw_names == ("size", "copy")
    assert "'copy' equals the target" in data.notes[1]


@pytest.mark.parametrize("pattern", ["part-*.parquet", "d/**/*.parquet", "d", "part-?.parquet"])
def test_files_of_a_pattern_are_one_table(load: Any, tmp_path: Path, pattern: str) -> None:
    frame = table(60)
    (tmp_path / "d/e").mkdir(parents=True)
    places = ["part-1", "part-2", "part-3"] if pattern.startswith("part") else ["d/a", "d/e/b", "d/e/c"]
    for place, start in zip(places, (0, 20, 40), strict=True):
        # In another order, and whole numbers here, fractions there.
        part = frame[start : start + 20][["colour", "price", "size"] if start else list(frame)]
        part.assign(size=part["size"].round()).astype({"size": "float32" if start else "int16"}).to_parquet(
            tmp_path / f"{place}.parquet"
        )
    (tmp_path / "d/_SUCCESS").touch()
    data = load(tmp_path / pattern)
    assert sorted(all_of(data)) == sorted(np.float32(frame["price"]).tolist())


@pytest.mark.parametrize("streaming", [False, True])
def test_a_directory_of_csv_files_is_one_table(load: Any, tmp_path: Path, streaming: bool) -> None:
    frame = table(60)
    (tmp_path / "d/e").mkdir(parents=True)
    for place, start in zip(["a", "e/b", "e/c"], (0, 20, 40), strict=True):
        frame[start : start + 20].to_csv(tmp_path / f"d/{place}.csv", index=False)
    (tmp_path / "d/README.txt").write_text("What this is.")
    data = load(tmp_path / "d", streaming=streaming)
    assert len(data.train) + len(data.validation) + len(data.test) == 60


def test_types_that_change_behind_the_first_rows(load: Any, tmp_path: Path) -> None:
    # Types are guessed from the first megabyte.
    sizes = ["1"] * 400_000 + ["2.5", "NA"]
    rows = "\n".join(f"{size},{index}" for index, size in enumerate(sizes))
    (tmp_path / "long.csv").write_text(f"size,price\n{rows}\n")
    data = load(tmp_path / "long.csv")
    assert data.columns.columns[0].kind == "number"


def test_a_byte_order_mark_and_quoted_commas(load: Any, tmp_path: Path) -> None:
    rows = "".join(f'"{"a,b" if i % 2 else "c"}",{i / 3}\n' for i in range(20))
    (tmp_path / "bom.csv").write_text(f'\ufeff"kind, of",price\n{rows}', encoding="utf-8")
    data = load(tmp_path / "bom.csv", features='"kind, of"')
    assert data.columns.columns[0].name == "kind, of"
    assert set(data.columns.columns[0].values) == {"a,b", "c"}


@pytest.mark.parametrize("streaming", [False, True])
def test_the_row_names_of_pandas_are_no_column(load: Any, streaming: bool) -> None:
    frame = table()
    data = load(frame[frame.index % 8 != 3], ending="parquet", streaming=streaming)
    assert data.columns is not None
    assert data.columns.raw_names == ("size", "colour")


@pytest.mark.parametrize("streaming", [False, True])
def test_names_in_another_encoding_are_one_line(load: Any, tmp_path: Path, streaming: bool) -> None:
    (tmp_path / "latin.csv").write_bytes("größe,price\n1,2\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv cannot be read: expected a CSV file in UTF-8"):
        load(tmp_path / "latin.csv", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_two_columns_of_one_name_in_parquet_are_one_line(load: Any, tmp_path: Path, streaming: bool) -> None:
    expected = r"twice\.parquet has two columns of one name: .* received 'size' 2 times"
    columns = [pa.array(range(40)), pa.array(range(40)), pa.array([1.5, 2.5] * 20)]
    pq.write_table(pa.table(columns, names=["size", "size", "price"]), tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=expected):
        load(tmp_path / "twice.parquet", streaming=streaming)


@pytest.mark.parametrize(
    ("values", "class_names"),
    [
        ([1000001, 1000002, 1000003], ("1000001", "1000002", "1000003")),
        ([0.5, 90210001.0], ("0.5", "90210001")),
        ([0.12345678, 0.12345679], ("0.12345678", "0.12345679")),
    ],
)
def test_classes_of_numbers_have_all_their_digits(load: Any, values: list[float], class_names: tuple[str, ...]) -> None:
    assert load(table(60, price=(values * 60)[:60])).class_names == class_names


def test_whole_numbers_that_float64_cannot_tell_apart_are_no_classes(load: Any) -> None:
    with pytest.raises(DataError, match="whole numbers beyond 9,007,199,254,740,992"):
        load(table(price=[2**53, 2**53 + 1, 2**53 + 2, 5] * 10))


@pytest.mark.parametrize("streaming", [False, True])
def test_hidden_directories_hold_no_tables(load: Any, tmp_path: Path, streaming: bool) -> None:
    for place in ("sales.csv", ".ipynb_checkpoints/sales-checkpoint.csv", "_temporary/0/sales.csv"):
        (tmp_path / "d" / place).parent.mkdir(parents=True, exist_ok=True)
        table(40).to_csv(tmp_path / "d" / place, index=False)
    for pattern in ("d", "d/**/*.csv"):
        data = load(tmp_path / pattern, streaming=streaming)
        assert len(data.train) + len(data.validation) + len(data.test) == 40


def test_a_name_with_brackets_is_no_pattern(load: Any, tmp_path: Path) -> None:
    (tmp_path / "x [2024]").mkdir()
    table(40).to_csv(tmp_path / "x [2024]/a.csv", index=False)
    for path in ("x [2024]/a.csv", "x [2024]"):
        assert len(load(tmp_path / path).train) == 24


@pytest.mark.parametrize("streaming", [False, True])
def test_codes_that_look_like_numbers_in_one_file_stay_as_they_are_written(
    load: Any, tmp_path: Path, streaming: bool
) -> None:
    for number, (codes, count) in enumerate(((["A0", "A1"], 60), (["01", "02"], 40))):
        table(count, colour=codes * (count // 2)).to_csv(tmp_path / f"{number}.csv", index=False)
    columns = load(tmp_path / "*.csv", streaming=streaming).columns
    assert {column.name: set(column.values) for column in columns.columns}["colour"] == {"A0", "A1", "01", "02"}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_streamed_csv_file_has_the_types_of_one_in_memory(load: Any, tmp_path: Path, streaming: bool) -> None:
    rows = "".join(f"{i % 9}, {i / 7:.3f},2024-01-{i % 28 + 1:02d} 12:00:00+00:00,{i * 1.5}\n" for i in range(200))
    (tmp_path / "padded.csv").write_text(f"a,b,when,price\n{rows}")
    columns = load(tmp_path / "padded.csv", streaming=streaming).columns
    assert {column.name: column.kind for column in columns.columns} == {"a": "number", "b": "number", "when": "date"}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_only_the_columns_that_are_used_are_read(tmp_path: Path, ending: str) -> None:
    frame, path = table(), tmp_path / f"table.{ending}"
    frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
    found = find_table(str(path))
    assert read_table(found, found.names[::2]).column_names == ["size", "price"]
    chunk = next(TableScan.open(found, ["price", "size"]).chunks())
    assert chunk.column_names == ["price", "size"]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_values_of_a_column_that_is_dropped_do_not_matter(load: Any, tmp_path: Path, streaming: bool) -> None:
    rows = "".join(f"{row},\xe4,{row * row}\n" for row in range(40))
    (tmp_path / "table.csv").write_bytes(f"size,doc,price\n{rows}".encode("latin-1"))
    data = load(tmp_path / "table.csv", drop="doc", streaming=streaming)
    assert data.feature_names == ("size",)
    with pytest.raises(DataError, match=r"UTF-?8"):
        load(tmp_path / "table.csv", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_quote_that_is_not_closed_is_found_in_a_column_that_is_dropped(
    load: Any, tmp_path: Path, streaming: bool
) -> None:
    rows = "".join(f"{row},{row * 1.5},text\n" for row in range(40))
    (tmp_path / "table.csv").write_text(f'size,price,doc\n{rows}1,2,"text\n{rows}')
    with pytest.raises(DataError, match=r"a quote .* that is not closed"):
        load(tmp_path / "table.csv", drop="doc", streaming=streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_keys_of_directories_are_said_to_be_no_columns(load: Any, tmp_path: Path, streaming: bool) -> None:
    for year in (2020, 2021):
        directory = tmp_path / "sales" / f"year={year}" / "shop=a b"
        directory.mkdir(parents=True)
        table(40 + year - 2000).to_parquet(directory / "part.parquet")
    note = "directories such as year=2020 name 'year', 'shop': no columns, for only what is in the files is read"
    assert note in load(tmp_path / "sales", streaming=streaming).notes
    assert (
        note.replace("'year', ", "").replace("year=2020", "shop=a b")
        in load(f"{tmp_path}/sales/year=2020", streaming=streaming).notes
    )
    assert not any("no columns" in note for note in load(table(), streaming=streaming).notes)
