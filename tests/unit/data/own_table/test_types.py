"""Types that differ from file to file or are unusual: one table in memory and streamed."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from own_tables import table

from annlib.errors import DataError

NUMBERS = list(range(40))
TIMES = [datetime.datetime(2020, 1, 1) + datetime.timedelta(hours=13 * number) for number in NUMBERS]
DECIMALS = [decimal.Decimal(number) / 4 for number in NUMBERS]
FAR = [datetime.datetime(9999, 12, 31), *TIMES[1:]]
TEXTS = [f"v{number % 3}" for number in NUMBERS]
NESTED = [{"key": number} for number in NUMBERS]


def load_files(load: Any, directory: Path, *columns: pa.Array, **flags: Any) -> tuple[Any, Any]:
    """Loads files of which each has one of the columns as `what`, in memory and streamed."""
    for number, column in enumerate(columns):
        frame = pa.Table.from_pandas(table(40, fold=["train", "validation", "test", "train"] * 10))
        price = pa.array(frame["price"].to_numpy() + number)
        columns_ = {"fold": frame["fold"], "what": column, "price": price}
        pq.write_table(
            pa.table(columns_ if number else dict(reversed(columns_.items()))), directory / f"{number}.parquet"
        )
    memory, streamed = (load(directory, split="fold", streaming=streaming, **flags) for streaming in (False, True))
    return memory, streamed


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (pa.array(NUMBERS), pa.array(np.linspace(0, 1, 40)), "number"),
        (pa.array([2**60 + 1 + 7 * number for number in NUMBERS]), pa.array(np.linspace(0, 1, 40)), "number"),
        (pa.array(NUMBERS, pa.uint64()), pa.array(NUMBERS, pa.int64()), "number"),
        (pa.array(DECIMALS, pa.decimal128(10, 2)), pa.array(NUMBERS), "number"),
        (pa.array(DECIMALS, pa.decimal128(10, 2)), pa.array(DECIMALS, pa.decimal128(12, 3)), "number"),
        (pa.array(NUMBERS).dictionary_encode(), pa.array(np.linspace(0, 1, 40)), "number"),
        (pa.array(TIMES, pa.timestamp("us")), pa.array(TIMES, pa.timestamp("ns")), "date"),
        (pa.array(FAR, pa.timestamp("us")), pa.array(TIMES, pa.timestamp("ns")), "date"),
        (pa.array(TIMES, pa.timestamp("us", "UTC")), pa.array(TIMES, pa.timestamp("s", "Europe/Berlin")), "date"),
        (pa.array(TIMES, pa.timestamp("us", "UTC")), pa.array(TIMES, pa.timestamp("us")), "date"),
        (pa.array([time.date() for time in TIMES]), pa.array(TIMES, pa.timestamp("us")), "date"),
        (pa.array(TEXTS).dictionary_encode(), pa.array(TEXTS, pa.large_string()), "category"),
        (pa.array(TEXTS, pa.string_view()), pa.array(TEXTS), "category"),
        (pa.array(TEXTS, pa.string_view()), pa.array(TEXTS, pa.string_view()), "category"),
        (pa.nulls(40), pa.array(NUMBERS), "number"),
    ],
)
def test_types_of_one_kind_are_one_column(
    load: Any, tmp_path: Path, first: pa.Array, second: pa.Array, kind: str
) -> None:
    memory, streamed = load_files(load, tmp_path, first, second)
    for data in (memory, streamed):
        assert [(column.name, column.kind) for column in data.columns.columns] == [("what", kind)]
    for name in ("train", "validation", "test"):
        expected, found = getattr(memory, name).x, getattr(streamed, name).x
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("second", [pa.array(TEXTS), pa.array([{"other": number} for number in NUMBERS])])
def test_a_column_that_is_dropped_may_have_any_types(load: Any, tmp_path: Path, second: pa.Array) -> None:
    with pytest.raises(DataError, match=r"column 'what' has another type from file to file: .* leave it out by --drop"):
        load_files(load, tmp_path, pa.array(NESTED), second)
    (tmp_path / "files").mkdir()
    for number, column in enumerate((pa.array(NESTED), second)):
        # Each file has rows of its own: those of two that are the same would tell the target.
        found = pa.Table.from_pandas(table(80)[40 * number : 40 * number + 40], preserve_index=False)
        found = found.append_column("what", column)
        pq.write_table(found, tmp_path / "files" / f"{number}.parquet")
    for streaming in (False, True):
        assert load(tmp_path / "files", drop="what", streaming=streaming).columns.raw_names == ("size", "colour")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("time", ["", " 10:00:00", "T10:00:00.5", " 10:00:00Z"])
def test_dates_beside_blanks_are_dates(load: Any, tmp_path: Path, time: str, streaming: bool) -> None:
    rows = "".join(f"{row}, 2024-01-{row % 28 + 1:02}{time} ,{row**2}\n" for row in NUMBERS)
    (tmp_path / "table.csv").write_text(f"size,day,price\n{rows}9,,3\n")
    data = load(tmp_path / "table.csv", streaming=streaming)
    assert [(column.name, column.kind) for column in data.columns.columns] == [("size", "number"), ("day", "date")]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("text", ["5", "5.5", "2024-01-01", "2024-01-01 10:00:00", "10:00"])
@pytest.mark.parametrize("blank", ["\xa0", "\n", "\u3000"])
def test_texts_beside_other_blanks_are_texts(load: Any, tmp_path: Path, blank: str, text: str, streaming: bool) -> None:
    rows = "".join(f'{row},"{(blank, "")[row % 2]}{text}{("", blank)[row % 2]}",{row**2}\n' for row in NUMBERS)
    (tmp_path / "table.csv").write_text(f"size,what,price\n{rows}")
    data = load(tmp_path / "table.csv", streaming=streaming)
    columns = {column.name: column for column in data.columns.columns}
    assert set(columns["what"].values) == {blank + text, text + blank}


@pytest.mark.parametrize("streaming", [False, True])
def test_times_of_day_are_no_column_of_a_model(load: Any, streaming: bool) -> None:
    frame = table(when=["07:30:00", "08:15", None, "23:59:59"] * 10)
    with pytest.raises(DataError, match=r"column 'when' is of type time32\[s\]: .* leave it out by --drop"):
        load(frame, streaming=streaming)
    assert load(frame, drop="when", streaming=streaming).columns.raw_names == ("size", "colour")
    with pytest.raises(DataError, match=r"--weight column 'when' is of type time32\[s\]: expected numbers"):
        load(frame, weight="when", streaming=streaming)
    # No time of a day.
    data = load(table(when=["24:30:00", "08:15"] * 20), streaming=streaming)
    assert {column.name: column.kind for column in data.columns.columns}["when"] == "category"
