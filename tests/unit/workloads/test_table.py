"""Whether a table is streamed is decided once for a run."""

from pathlib import Path
from typing import Any

import pytest

from annlib.config import load_config
from annlib.data.own_table import sizing
from annlib.data.own_table.config import TableConfig
from annlib.workloads.table import settle

GIB = 2**30


@pytest.fixture
def settled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Settles a configuration on a machine that is too small for two workers, and keeps it as a run does."""
    monkeypatch.setattr(sizing, "memory_limit_bytes", lambda: 5 * GIB)
    monkeypatch.setattr(sizing, "memory_needed_bytes", lambda config: 2 * GIB)

    def settle_and_begin(**flags: Any) -> TableConfig:
        values = {
            "workload": "table",
            "data": str(tmp_path / "a.csv"),
            "target": "y",
            "storage": str(tmp_path),
            **flags,
        }
        defaults = {"epochs": 1, "global_batch_size": 32, "learning_rate": 0.001}
        config = load_config(values, defaults=defaults, environment={}, config_class=TableConfig)
        assert isinstance(config, TableConfig)
        config = settle(config)
        if not config.run_path.exists():
            config.run_path.mkdir()
            (config.run_path / "config.yaml").write_text(config.to_yaml())
        return config

    return settle_and_begin


@pytest.mark.parametrize(("first", "second"), [(0, 2), (2, 0)])
def test_a_run_goes_on_as_it_began_with_another_number_of_workers(settled: Any, first: int, second: int) -> None:
    began, other = settled(name="a", num_workers=first), settled(name="b", num_workers=second)
    assert {began.streaming, other.streaming} == {True, False}
    again = settled(name="a", num_workers=second)
    assert again.streaming == began.streaming
    assert again.identity == began.identity


def test_a_search_goes_on_as_it_began(settled: Any, tmp_path: Path) -> None:
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search.yaml").write_text("streaming: true\n")
    assert settled(name="search").streaming
    assert not settled(name="a").streaming


def test_the_flag_is_taken_anyway(settled: Any) -> None:
    assert not settled(name="a").streaming
    assert settled(name="a", streaming=True).streaming


def test_a_run_of_another_kind_decides_nothing(settled: Any, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("workload: wine\n")
    assert settled(name="other", num_workers=2).streaming
