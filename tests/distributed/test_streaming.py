"""A table that is streamed: two workers, one of which is killed within an epoch, against one process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fault_runs import ROOT, Faulty, finish, history, metrics_of, wait_for, workers_of

# The training split is two windows of 32 MiB.
NUM_ROWS, NUM_COLUMNS = 600_000, 24


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        generator.normal(size=(NUM_ROWS, NUM_COLUMNS)).astype("float32"),
        columns=[f"x{index}" for index in range(NUM_COLUMNS)],
    )
    frame["y"] = frame["x0"] * frame["x1"] + frame["x2"]
    path = tmp_path_factory.mktemp("table") / "table.parquet"
    frame.to_parquet(path, row_group_size=100_000)
    return path


def start(table: Path, name: str, *flags: str) -> Faulty:
    # In float64 rounding is too small to switch a ReLU unit.
    arguments = ["--data", str(table), "--target", "y", "--hidden", "16", "--precision", "float64", "--epochs", "3"]
    arguments += ["--global-batch-size", "4096", "--storage", str(table.parent), "--name", name, "--streaming"]
    return subprocess.Popen(
        [sys.executable, "jobs/train.py", "table", *arguments, *flags],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "local", "ANNLIB_CACHE_DIR": str(table.parent / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_worker_killed_within_a_streamed_epoch_changes_nothing(table: Path) -> None:
    one = finish(start(table, "one"))
    assert f"streamed: {NUM_ROWS:,} rows" in one
    run = table.parent / "two"
    driver = start(table, "two", "--num-workers", "2", "--checkpoint-every-s", "0.2")
    wait_for(lambda: list(run.glob("checkpoints/epoch-00001-step-*/manifest.json")), "a checkpoint within an epoch")
    os.kill(workers_of(driver.pid)[-1], signal.SIGKILL)
    finish(driver)
    restarts = metrics_of(run)["restarts"]
    assert len(restarts) == 1
    expected, received = history(table.parent / "one"), history(run)
    assert [row["epoch"] for row in received] == [1, 2, 3]
    for row, reference in zip(received, expected, strict=True):
        for name in ("loss", "val_loss", "val_mae"):
            assert row[name] == pytest.approx(reference[name], rel=1e-6)
    assert expected[-1]["val_loss"] < expected[0]["val_loss"]
