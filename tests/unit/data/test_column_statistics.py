"""Values of categories are counted in chunks, within one bound of memory for all columns."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from annlib.data import column_statistics
from annlib.data.column_statistics import ColumnStatistics


def counted(chunk_rows: int = 100, **columns: list[Any]) -> ColumnStatistics:
    table = pa.table(columns)
    statistics = ColumnStatistics(dict.fromkeys(columns, "category"))
    for start in range(0, len(table), chunk_rows):
        statistics.update(table.slice(start, chunk_rows))
    return statistics


@pytest.mark.parametrize("most_pending", [1, 250, 10**6])
def test_values_come_by_frequency_then_by_name(monkeypatch: pytest.MonkeyPatch, most_pending: int) -> None:
    monkeypatch.setattr(column_statistics, "_MOST_PENDING", most_pending)
    # From Ü on in the order of Unicode; v0 comes once more often than v1, and so on.
    names = [f"v{number:02}" for number in range(20)] + ["Ü", "ü", "\U0001f600"]
    texts = [name for rank, name in enumerate(names) for _ in range(20 - rank // 2)] + ["once", None]
    shuffled = np.random.default_rng(0).permutation(np.array(texts, object)).tolist()
    columns, useless = counted(7, text=shuffled).result()
    assert columns.columns[0].values == tuple(names)
    assert columns.columns[0].has_missing
    assert not useless


def test_ids_give_way_where_all_columns_take_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_statistics, "_MOST_BYTES", 20_000)
    rows = range(2000)
    columns, useless = counted(
        id=[f"{row:015}" for row in rows],
        other=[f"other {row}" for row in rows],
        text=[f"t{row % 500}" for row in rows],
    ).result()
    assert columns.raw_names == ("text",)
    assert len(columns.columns[0].values) == 500
    assert list(useless) == ["id", "other"]
    assert useless["id"].startswith("more than ")
    assert useless["id"].endswith(" different texts, as of names or ids, in 2,000 training rows")


def test_a_column_of_too_many_values_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(column_statistics, "_MOST_COUNTED", 300)
    _, useless = counted(id=[f"{row}" for row in range(1000)], text=["a", "b"] * 500).result()
    assert useless == {"id": "more than 300 different texts, as of names or ids, in 1,000 training rows"}
