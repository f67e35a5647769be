"""Small tables, and their configurations."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from annlib.config import load_config
from annlib.data import Dataset
from annlib.data.own_table.config import TableConfig
from annlib.data.own_table.loading import load_table
from annlib.data.own_table.streaming import load_streamed

DEFAULTS = {"epochs": 1, "global_batch_size": 32, "learning_rate": 0.001}
Load = Callable[..., Dataset]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a table from a file, by the flags of the command line: `load(table(), target="price", streaming=True)`."""
    monkeypatch.setenv("ANNLIB_CACHE_DIR", str(tmp_path / "cache"))

    def load_frame(frame: pd.DataFrame | str | Path, *, ending: str = "csv", **flags: Any) -> Dataset:
        path: Path | str = tmp_path / f"table.{ending}"
        if isinstance(frame, pd.DataFrame):
            frame.to_csv(path, index=False) if ending == "csv" else frame.to_parquet(path)
        else:
            path = frame
        values = {"workload": "table", "data": str(path), "target": "price", **flags}
        config = load_config(values, defaults=DEFAULTS, environment={}, config_class=TableConfig)
        assert isinstance(config, TableConfig)
        return load_streamed(config) if config.streaming else load_table(config)

    return load_frame
