"""What a table takes in memory, estimated before it is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from own_tables import table

from annlib.config import load_config
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.sizing import BASE_BYTES, memory_needed_bytes

NUM_ROWS = 20_000


def needed(data: Path, **flags: Any) -> int:
    defaults = {"epochs": 1, "global_batch_size": 32, "learning_rate": 0.001}
    values = {"workload": "table", "data": str(data), "target": "price", **flags}
    config = load_config(values, defaults=defaults, environment={}, config_class=TableConfig)
    assert isinstance(config, TableConfig)
    return memory_needed_bytes(config) - BASE_BYTES


def test_texts_that_repeat_count_as_long_as_they_are(tmp_path: Path) -> None:
    text = pa.array(["category number 1", "category number 2"] * (NUM_ROWS // 2))
    columns = {f"c{number}": text for number in range(20)}
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({**columns, "price": np.arange(NUM_ROWS) * 0.1}), path)
    # 17 letters and an offset of 4 bytes; twice, and the encoded rows twice. In the file each takes a bit.
    assert needed(path) > 2 * NUM_ROWS * 20 * (17 + 4 + 4) > 20 * path.stat().st_size
    assert needed(path) == needed(path, drop="c1") + 2.5 * NUM_ROWS * (17 + 4 + 4)


def test_digits_of_a_csv_file_count_as_numbers(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 2, (NUM_ROWS, 300))
    frame = pd.DataFrame(digits, columns=[f"p{number}" for number in range(300)]).assign(price=digits.sum(axis=1))
    path = tmp_path / "table.csv"
    # More than a block of text.
    frame.to_csv(path, index=False)
    assert 1.1 > needed(path) / (2.5 * frame.size * (8 + 4)) > 0.98


def test_dictionaries_count_as_texts_and_dates_as_their_parts(tmp_path: Path) -> None:
    dates = pd.date_range("2024-01-01", periods=40, freq="h").astype("datetime64[ns]")
    table(colour=pd.Categorical(["a" * 1000, "b" * 1000] * 20), day=dates).to_parquet(tmp_path / "table.parquet")
    # Two numbers of float64, an offset and a text, and a date; encoded 2 numbers, a code and 5 parts.
    assert needed(tmp_path / "table.parquet") >= 2.5 * 40 * (16 + 1004 + 8 + 4 * 8)


def test_files_without_rows_count_none(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("size,price\n")
    assert needed(tmp_path / "table.csv") < 1000
