"""What a user is told of columns that are read as they are written; the same in memory and streamed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.hints import RowCount, text_notes, unnamed_notes
from annlib.data.own_table.loading import load_table
from annlib.data.own_table.streaming import load_streamed
from annlib.errors import DataError

NUM_ROWS = 600


@pytest.fixture
def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    days = pd.date_range("2024-01-01", periods=NUM_ROWS)
    return pd.DataFrame(
        {
            "id": np.arange(1000, 1000 + NUM_ROWS),
            "size": generator.normal(size=NUM_ROWS),
            "day": generator.choice(days[:50].strftime("%d.%m.%Y"), NUM_ROWS),
            "discount": generator.choice(["5%", "27%", "100%"], NUM_ROWS),
            "city": generator.choice(["Bonn", "Ulm"], NUM_ROWS),
            "price": generator.normal(size=NUM_ROWS),
        }
    )


def notes_of(path: Path, monkeypatch: pytest.MonkeyPatch, **values: object) -> list[tuple[str, ...]]:
    monkeypatch.setenv("ANNLIB_CACHE_DIR", str(path.parent / "cache"))
    config = TableConfig.model_validate(
        {"workload": "table", "epochs": 1, "global_batch_size": 32, "learning_rate": 0.1, "data": str(path)}
        | {"target": ["price"], **values}
    )
    return [load_table(config).notes, load_streamed(config.model_copy(update={"streaming": True})).notes]


def test_columns_that_mislead_are_told(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame.to_csv(tmp_path / "a.csv")
    for notes in notes_of(tmp_path / "a.csv", monkeypatch):
        text = "\n".join(notes)
        assert "left out '', column 1: it has no name, as row names have that pandas writes" in text
        assert "'id' counts the rows, from 1,000 on: leave it out by --drop" in text
        assert "'day' is taken for texts, not for dates ('" in text
        assert "'discount' is taken for texts, not for numbers ('" in text
        assert "'city'" not in text
        assert "'size'" not in text


def test_what_is_named_is_taken(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame.rename(columns={"size": "Unnamed: 3"}).to_csv(tmp_path / "a.csv", index=False)
    for notes in notes_of(tmp_path / "a.csv", monkeypatch, features=["id", "Unnamed: 3"]):
        assert not [note for note in notes if "id" in note or "Unnamed" in note]


def test_a_table_without_another_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"price": np.arange(50.0)}).to_csv(tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"no column is left to predict price from: .* received '', price, all of them"):
        notes_of(tmp_path / "a.csv", monkeypatch)


@pytest.mark.parametrize("comma", [".", ","])
def test_another_separator_is_told(comma: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=["x", "z", "price"])
    frame.to_csv(tmp_path / "a.csv", sep=";", decimal=comma, index=False)
    with pytest.raises(DataError, match="has one column, 'x;z;price': expected values separated by commas"):
        notes_of(tmp_path / "a.csv", monkeypatch)


@pytest.mark.parametrize(
    ("values", "counts"),
    [
        ([3, 4, 5, 6], True),
        ([0, 1, 2, 3], True),
        ([3, 4, 6, 7], False),
        ([3, 4, None, 6], False),
        ([3, 4, 5, 5], False),
        ([6, 5, 4, 3], False),
    ],
)
def test_a_column_counts_where_each_row_is_one_more(values: list[int | None], counts: bool) -> None:
    table = pa.table({"n": pa.array(values, pa.int64())})
    found = RowCount(table.schema)
    for start in (0, 1, 3):
        found.update(table.slice(start, {0: 1, 1: 2, 3: 1}[start]))
    config = TableConfig.model_construct(features=None)
    assert bool(found.notes(config)) is counts
    assert not RowCount(table.schema).update(table.slice(0, 2)).notes(config)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["31.12.2024", "1.1.2025"], "dates"),
        (["12/31/2024 10:00", "01/01/2025 9:30"], "dates"),
        (["$1,200.50", "-$3.00"], "numbers"),
        (["1.234,50 €", "7 €"], "numbers"),
        (["5 %", "12%"], "numbers"),
        (["1,5", "2,25"], "numbers"),
        (["\xa0200", "1\xa0200"], "numbers"),
        (["200\n", "7"], "numbers"),
        (["\xa02024-12-31", "2024-12-30"], "dates"),
        (["007", "123"], None),
        ([" 007", "123\t"], None),
        (["a1", "5%"], None),
        (["12-B", "13-C"], None),
        (["yes", "no"], None),
        ([None, None], None),
    ],
)
def test_texts_that_look_like_something_else(texts: list[str | None], kind: str | None) -> None:
    notes = text_notes(pa.table({"c": pa.array(texts, pa.string())}), is_csv=True)
    assert [f"not for {kind} (" in note for note in notes] == ([] if kind is None else [True])


@pytest.mark.parametrize(
    ("texts", "is_csv", "note"),
    [
        (["2024-12-31", "31.12.2024"], True, "('31.12.2024'): dates are written as 2024-12-31"),
        (["2024-02-30"], False, "('2024-02-30'): dates are written as 2024-12-31"),
        (["2024-12-31"], False, "('2024-12-31'), for it is text in the file: write it as date or timestamp"),
        # Later rows hold something else.
        (["2024-12-31"], True, None),
    ],
)
def test_the_note_on_dates_shows_those_that_are_none(texts: list[str], is_csv: bool, note: str | None) -> None:
    notes = text_notes(pa.table({"c": texts}), is_csv=is_csv)
    assert notes == ([] if note is None else [f"'c' is taken for texts, not for dates {note}"])


def test_columns_that_are_used_or_dropped_need_no_note() -> None:
    config = TableConfig.model_construct(target=("",), weight=None, split=None, drop=("Unnamed: 2",), features=None)
    assert unnamed_notes(["", "x", "Unnamed: 2", "Unnamed: 3"], config) == [
        "left out 'Unnamed: 3', column 4: it has no name, as row names have that pandas writes; --features takes it"
    ]
