"""Runs with faults, and their comparison with a run without."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Epochs of half a second, with checkpoints within them. In float64 rounding is too small to switch a ReLU unit, so that
# any two runs agree far below 1e-6.
FLAGS = ["--epochs", "5", "--global-batch-size", "4", "--precision", "float64", "--checkpoint-every-s", "0.2"]
TIMEOUT_S = 400.0

Faulty = subprocess.Popen[str]


def wait_for(condition: Callable[[], object], what: str, *, timeout_s: float = TIMEOUT_S, every_s: float = 0.1) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(every_s)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_served(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def start(
    storage: Path, fault: str, moment: str, *flags: str, address: str = "local", marker: Path | None = None
) -> Faulty:
    program = [sys.executable, str(HERE / "faulty.py"), fault, moment, str(marker or storage / "marker")]
    return subprocess.Popen(
        [*program, "--storage", str(storage), "--name", "run", *FLAGS, *flags],
        env={**os.environ, "RAY_ADDRESS": address, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: Faulty, *, code: int | tuple[int, ...] = 0) -> str:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode in (code if isinstance(code, tuple) else (code,)), out + err
    return out + err


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def assert_same(run: Path, undisturbed: Path) -> None:
    import keras

    expected, received = history(undisturbed), history(run)
    assert [row["epoch"] for row in received] == [row["epoch"] for row in expected]
    for one, other in zip(expected, received, strict=True):
        for name in ("loss", "val_loss", "sparse_categorical_accuracy"):
            assert other[name] == pytest.approx(one[name], rel=1e-6)
    weights = [keras.saving.load_model(path / "model.keras").get_weights() for path in (undisturbed, run)]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-9)


def metrics_of(run: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    return metrics


def note_recovery(record_property: Any, metrics: dict[str, Any]) -> None:
    """Prints the time from the fault to training again, for the table in the README."""
    for restart in metrics["restarts"]:
        print(f"recovery: {restart['seconds_lost']} s after: {restart['cause']}")  # noqa: T201
        record_property("seconds_lost", restart["seconds_lost"])


def workers_of(driver: int) -> list[int]:
    """Returns the process ids of Ray Train's workers below a driver."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            is_worker = (directory / "cmdline").read_bytes().startswith(b"ray::RayTrainWorker")
            pid = int(directory.name)
            while is_worker and pid > 1:
                if pid == driver:
                    found.append(int(directory.name))
                    break
                pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    return sorted(found)


def errors_of(text: str) -> list[str]:
    """Returns the error lines of an error stream, on which `faulty.py` also has what TensorFlow writes."""
    assert "Traceback" not in text, text
    return [line for line in text.splitlines() if line.startswith("error: ")]
