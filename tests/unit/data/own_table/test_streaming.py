"""Tables that are prepared on disk, against the same tables in memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from own_tables import table

from annlib.data import Dataset
from annlib.data.dataset import StreamedSplit
from annlib.data.own_table import scanning, streaming, survey
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.files import find_table
from annlib.data.own_table.sizing import memory_needed_bytes, must_stream
from annlib.errors import DataError, StorageError
from annlib.workloads.table import build_model

SPLITS = ("train", "validation", "test")
FOLD = ["train", "validation", "train", "train", "test"] * 8
RNG = np.random.default_rng(4)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "CHUNK_ROWS", 7)


def table_config(data: str, **values: Any) -> TableConfig:
    fixed = {"epochs": 1, "global_batch_size": 8, "hidden": "5", "activation": "relu", "optimizer": "adam"}
    return TableConfig.model_validate(
        {"workload": "table", "data": data, "target": "price", "learning_rate": 0.1, **fixed, **values}
    )


def arrays(split: StreamedSplit) -> tuple[np.ndarray, ...]:
    """All that is on disk."""
    assert isinstance(split, StreamedSplit)
    return split.blocks.read([(0, len(split))])


FRAMES: dict[str, tuple[pd.DataFrame, dict[str, Any]]] = {
    "regression": (table(size=np.where(np.arange(40) % 5, RNG.normal(size=40), np.nan)), {}),
    "binary": (table(kind=["yes", "no"] * 20), {"target": "kind"}),
    "multiclass": (table(kind=["c", "a", "b", "a"] * 10), {"target": "kind", "drop": "price"}),
    "numbers as classes": (table(kind=[3, 1, 2, 1] * 10), {"target": "kind", "drop": "price"}),
    "booleans": (table(kind=[True, False, False] * 13 + [True]), {"target": "kind"}),
    "labels": (table(l1=[0, 1] * 20, l2=[1, 1, 0] * 13 + [0]), {"target": "l1,l2"}),
    "weights": (table(w=np.arange(40) + 0.5), {"weight": "w"}),
    "dates and booleans": (
        table(day=pd.date_range("2024-01-30", periods=40, freq="17h"), flag=[True, False, True, True] * 10),
        {},
    ),
    "useless columns": (table(same=1, none=np.nan, id=[f"i{i}" for i in range(40)]), {}),
}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize(("frame", "flags"), FRAMES.values(), ids=FRAMES)
def test_rows_and_columns_are_those_of_the_table_in_memory(
    load: Any, frame: pd.DataFrame, flags: dict[str, Any], ending: str
) -> None:
    frame = frame.assign(fold=FOLD)
    expected = load(frame, ending=ending, split="fold", **flags)
    received = load(frame, ending=ending, split="fold", streaming=True, **flags)
    assert received.columns.encoded_names == expected.columns.encoded_names
    assert (received.task, received.class_names) == (expected.task, expected.class_names)
    assert received.notes[:-1] == expected.notes
    for name in SPLITS:
        whole, reference = getattr(received, name), getattr(expected, name)
        assert len(whole) == len(reference)
        x, y, *weight = arrays(whole)
        np.testing.assert_allclose(x, reference.x, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(y, reference.y)
        assert y.dtype == reference.y.dtype
        if reference.weight is not None:
            np.testing.assert_allclose(weight[0], reference.weight, rtol=1e-6)


def test_the_targets_moments_are_those_of_all_training_rows(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SAMPLE_ROWS", 4)
    monkeypatch.setattr(streaming, "_SAMPLE_RANGES", 2)
    data = load(table(300), streaming=True)
    assert len(data.train.y) == 4
    _, y = arrays(data.train)
    assert data.train.y_moments == pytest.approx((y.mean(), y.std()), rel=1e-5)
    config = table_config(data.name)
    model = build_model(data, config)
    layer = model.get_layer("in_the_unit_of_the_target")
    assert (layer.offset, layer.scale) == pytest.approx(data.train.y_moments)
    assert load(table(40, kind=["a", "b"] * 20), target="kind", streaming=True).train.y_moments is None


def prices(data: Dataset) -> list[list[float]]:
    return [arrays(getattr(data, name))[1].tolist() for name in SPLITS]


def test_a_random_split_takes_each_row_once_whatever_the_chunks(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = table(3000)
    first = load(frame, streaming=True)
    assert sorted(price for split in prices(first) for price in split) == sorted(np.float32(frame["price"]).tolist())
    shares = [len(split) / 3000 for split in prices(first)]
    # Three standard deviations of a binomial share of 3,000 rows.
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.027)
    monkeypatch.setattr(scanning, "CHUNK_ROWS", 1000)
    # Another file, so that it is prepared again.
    again = load(frame, ending="parquet", streaming=True)
    assert prices(again) == prices(first)
    assert again.fingerprint == first.fingerprint
    assert prices(load(frame, streaming=True, split_seed=7)) != prices(first)


def test_a_split_that_chance_leaves_empty_is_one_line(load: Any) -> None:
    with pytest.raises(DataError, match=r"the random split leaves validation empty: .* received 0 of 12\. Add rows"):
        load(table(12), streaming=True, validation_fraction=0.01)


def test_the_columns_are_fitted_on_the_training_rows_alone(load: Any) -> None:
    frame = table(fold=["train"] * 20 + ["validation", "test"] * 10)
    frame.loc[20:, "size"] *= 1000
    data = load(frame, split="fold", streaming=True)
    np.testing.assert_allclose(data.columns.columns[0].means, frame["size"][:20].mean())
    np.testing.assert_allclose(data.columns.columns[0].scales, frame["size"][:20].std(ddof=0))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_files_of_other_types_and_orders_are_one_table(load: Any, tmp_path: Path, ending: str) -> None:
    frame = table(60).assign(size=lambda frame: frame["size"].round(), fold=(FOLD + FOLD)[:60])
    for index, start in enumerate((0, 20, 40)):
        part = frame[start : start + 20]
        if start:
            part = part[["colour", "fold", "price", "size"]].astype({"size": "float32"})
        else:
            part = part.astype({"size": "int16"})
        path = tmp_path / f"part-{index}.{ending}"
        part.to_csv(path, index=False) if ending == "csv" else part.to_parquet(path)
    expected, received = (load(tmp_path / f"part-*.{ending}", split="fold", streaming=s) for s in (False, True))
    for name in SPLITS:
        np.testing.assert_allclose(arrays(getattr(received, name))[0], getattr(expected, name).x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "2", "", "3"], "number"),
        (["1", "2.5", "NA", "1e3"], "number"),
        (["true", "False", "", "TRUE"], "boolean"),
        (["0", "x", "true", "y"], "category"),
        (["2024-01-01", "2024-01-02T10:00:00", "", "2024-02-01 10:00:00.5"], "date"),
        (["2024-01-01", "later", "", "x"], "category"),
        (["", "", "", "x1"], "category"),
    ],
)
def test_the_type_of_a_csv_column_is_that_of_all_rows(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str], kind: str
) -> None:
    # A block a few rows: the last text comes in a later one.
    monkeypatch.setattr(scanning, "CSV_BLOCK_BYTES", 64)
    values = texts[:1] * 10 + texts[1:3] * 10 + texts[3:] * 10
    rows = "".join(f"{value},{'ab'[index % 2]},{index / 3}\n" for index, value in enumerate(values))
    (tmp_path / "table.csv").write_text(f"what,colour,price\n{rows}")
    data = load(tmp_path / "table.csv", streaming=True)
    assert {column.name: column.kind for column in data.columns.columns}["what"] == kind


def test_it_is_prepared_once_and_again_when_the_file_changes(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = []
    prepare = streaming._prepare
    monkeypatch.setattr(streaming, "_prepare", lambda *arguments: (prepared.append(1), prepare(*arguments)))
    first = load(table(), streaming=True)
    assert load(table(), streaming=True, epochs=7, learning_rate=0.5).fingerprint != ""
    assert len(prepared) == 2, "each call writes the file again"
    path = Path(first.name)
    assert load(path, streaming=True).fingerprint == load(path, streaming=True, epochs=7).fingerprint
    assert len(prepared) == 2
    os.utime(path, (0, 0))
    load(path, streaming=True)
    assert len(prepared) == 3


def test_another_machine_that_was_faster_is_taken(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(table(), streaming=True)
    directory = first.train.blocks.directory.parent
    kept = directory.with_name("kept")
    directory.rename(kept)
    write = streaming._write_rows

    def late(*arguments: Any) -> list[int]:
        sizes = write(*arguments)
        kept.rename(directory)
        return sizes

    monkeypatch.setattr(streaming, "_write_rows", late)
    again = load(Path(first.name), streaming=True)
    assert again.fingerprint == first.fingerprint
    assert sorted(path.name for path in directory.parent.iterdir()) == [directory.name, f"{directory.name}.lock"]


@pytest.mark.parametrize("name", ["train/array-0.bin", "test/blocks.json", "table.json"])
def test_damage_is_one_line(load: Any, name: str) -> None:
    data = load(table(), streaming=True)
    file = data.train.blocks.directory.parent / name
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"expected .*, received .*Remove it"):
        load(Path(data.name), streaming=True)


def test_an_error_says_in_which_rows_it_counts(load: Any) -> None:
    frame = table(w=[1.0] * 30 + [-2.0] + [1.0] * 9)
    with pytest.raises(DataError, match=r"^rows 29 to 35 of 40: --weight column 'w' is negative in 1 of 7 rows.*row 3"):
        load(frame, weight="w", streaming=True)


def test_a_cache_that_cannot_be_written_is_one_line(load: Any, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written: expected room"):
        load(table(), streaming=True)
    (tmp_path / "cache").unlink()


def test_a_table_is_streamed_when_it_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    table().to_csv(path, index=False)

    def config(**values: Any) -> TableConfig:
        return table_config(str(path), **values)

    assert not must_stream(config(memory_limit="2GiB"))
    assert must_stream(config(memory_limit="2GiB", streaming=True))
    with path.open("r+b") as file:
        # A hole: sizes count, not what is in it.
        file.truncate(2**30)
    assert memory_needed_bytes(config()) > 3 * 2**30
    assert must_stream(config(memory_limit="2GiB"))
    assert not must_stream(config(memory_limit="8GiB"))


def test_wide_rows_come_in_chunks_and_samples_of_as_many_bytes(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "CHUNK_ROWS", 1000)
    monkeypatch.setattr(scanning, "CHUNK_BYTES", 10_000)
    monkeypatch.setattr(survey, "_SURVEY_BYTES", 20_000)
    frame = table(1000, doc=[f"{row} {'x' * 200}" for row in range(1000)])
    frame.to_parquet(tmp_path / "table.parquet")
    found = find_table(str(tmp_path / "table.parquet"))
    scan = scanning.TableScan.open(found, found.names)
    chunks = list(scan.chunks())
    assert max(chunk.nbytes for chunk in chunks) < 11_000
    assert sum(map(len, chunks)) == 1000
    surveyed = survey.Survey(scan, table_config(str(tmp_path / "table.parquet")))
    assert 10_000 < surveyed._sample.nbytes <= 20_000
    # All over the table, every row of a multiple.
    rows = [int(text.split()[0]) for text in surveyed._sample["doc"].to_pylist()]
    assert rows == list(range(0, 1000, 16))


def test_what_a_killed_preparation_left_is_removed(load: Any) -> None:
    first = load(table(), streaming=True)
    directory = first.train.blocks.directory.parent
    (directory / "table.json").unlink()
    directory.rename(directory.with_name(f".{directory.name}.0123"))
    other = directory.with_name(".ffff.0123")
    other.mkdir()
    load(Path(first.name), streaming=True)
    assert sorted(directory.parent.iterdir()) == sorted([other, directory, directory.with_suffix(".lock")])


def csv_text(texts: list[str], num_rows: int = 40, header: str = "size,kind") -> str:
    sizes = RNG.normal(size=num_rows)
    return f"{header}\n" + "".join(f"{sizes[row]},{texts[row % len(texts)]}\n" for row in range(num_rows))


@pytest.mark.parametrize("has_new_time", [True, False])
@pytest.mark.parametrize(
    ("second", "received"),
    [
        (csv_text(["u", "v", "w"], 60), "40 rows, then 60"),
        (csv_text(["u", "v", "w"], 30), "40 rows, then 30"),
        (csv_text(["u", "v", "zzz"]), "a class of target 'kind' that was not there before"),
        (csv_text(["u", "v", "w"], header="other,kind"), None),
        ("", None),
    ],
)
def test_files_that_change_while_they_are_read_are_one_line(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: str, received: str | None, has_new_time: bool
) -> None:
    path = tmp_path / "table.csv"
    path.write_text(csv_text(["u", "v", "w"]))
    write = streaming._write_rows

    def changed(*arguments: Any) -> list[int]:
        path.write_text(second)
        return write(*arguments)

    monkeypatch.setattr(streaming, "_write_rows", changed)
    if not has_new_time:
        # An object store that tells neither size nor time.
        directory = streaming._directory(table_config(str(path), target="kind"))
        monkeypatch.setattr(streaming, "_directory", lambda config: directory)
    expected = "changed while it was read" if has_new_time or received else "expected"
    with pytest.raises(DataError, match=rf"{expected}.*{'' if has_new_time else received or ''}"):
        load(path, target="kind", streaming=True)
    assert [file.suffix for file in (tmp_path / "cache" / "tables").iterdir()] == [".lock"]
