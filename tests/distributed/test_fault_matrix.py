"""The fault matrix: whatever happens, and whenever, a run ends with the history and weights of an undisturbed one."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Epochs of half a second, with checkpoints within them. In float64 rounding is too small to switch a ReLU unit, so that
# any two runs agree far below 1e-6.
FLAGS = ["--epochs", "5", "--global-batch-size", "4", "--precision", "float64", "--checkpoint-every-s", "0.2"]
TIMEOUT_S = 240.0
MOMENTS = ("first-epoch", "checkpoint", "evaluation", "last-epoch")

Faulty = subprocess.Popen[str]


def start(storage: Path, fault: str, moment: str, *flags: str, address: str = "local") -> Faulty:
    program = [sys.executable, str(HERE / "faulty.py"), fault, moment, str(storage / "marker")]
    return subprocess.Popen(
        [*program, "--storage", str(storage), "--name", "run", *FLAGS, *flags],
        env={**os.environ, "RAY_ADDRESS": address, "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: Faulty, *, code: int = 0) -> str:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == code, out + err
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


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    finish(start(storage, "none", "never"))
    return storage / "run"


def note_recovery(record_property: Any, run: Path) -> None:
    """Prints the time from the fault to training again, for the table in the README."""
    for restart in metrics_of(run)["restarts"]:
        print(f"recovery: {restart['seconds_lost']} s after: {restart['cause']}")  # noqa: T201
        record_property("seconds_lost", restart["seconds_lost"])


WORKER_FAULTS = [
    pytest.param(fault, moment, marks=() if (fault, moment) == ("kill-0", "checkpoint") else pytest.mark.faults)
    for fault in ("kill-0", "kill-1", "stop-1")
    for moment in MOMENTS
]
# A checkpoint to damage is there from the second epoch on at the latest.
WORKER_FAULTS += [
    pytest.param(fault, "last-epoch", marks=() if fault == "corrupt" else pytest.mark.faults)
    for fault in ("corrupt", "truncate")
]


@pytest.mark.parametrize(("fault", "moment"), WORKER_FAULTS)
def test_a_lost_worker(tmp_path: Path, undisturbed: Path, fault: str, moment: str, record_property: Any) -> None:
    flags = ["--num-workers", "2", *(["--worker-timeout-s", "8"] if fault == "stop-1" else [])]
    out = finish(start(tmp_path, fault, moment, *flags))
    assert (tmp_path / "marker").exists()
    assert_same(tmp_path / "run", undisturbed)
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["attempts"], len(metrics["restarts"])) in {(2, 1), (1, 0 if moment == "first-epoch" else 1)}, out
    rank = 1 if fault.endswith("1") else 0
    assert f"rank {rank} {'does not answer' if fault == 'stop-1' else 'was lost'}" in out
    if fault in ("corrupt", "truncate"):
        assert "is damaged and is passed over" in (tmp_path / "run/run.log").read_text()
    note_recovery(record_property, tmp_path / "run")


DRIVER_FAULTS = [
    pytest.param(fault, moment, workers, marks=() if (fault, moment, workers) == cell else pytest.mark.faults)
    for fault, cell in (("driver", ("driver", "checkpoint", "0")), ("sigterm", ("sigterm", "first-epoch", "2")))
    for moment in MOMENTS
    for workers in ("0", "2")
]


@pytest.mark.parametrize(("fault", "moment", "num_workers"), DRIVER_FAULTS)
def test_a_lost_or_stopped_driver(tmp_path: Path, undisturbed: Path, fault: str, moment: str, num_workers: str) -> None:
    flags = ["--num-workers", num_workers]
    code = {"driver": -signal.SIGKILL, "sigterm": 128 + signal.SIGTERM}[fault]
    out = finish(start(tmp_path, fault, moment, *flags), code=code)
    run = tmp_path / "run"
    assert not (run / "metrics.json").exists()
    if fault == "sigterm":
        assert "interrupted after epoch" in out
        assert list((run / "checkpoints").glob("epoch-*"))
    out = finish(start(tmp_path, fault, moment, *flags))
    if fault == "sigterm":
        assert "resuming after epoch" in out
    assert_same(run, undisturbed)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A head without CPUs and three nodes of one CPU: two for the workers, one to go to."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(3):
        cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("fault", "moment"), [*(("node", moment) for moment in MOMENTS), ("drain", "first-epoch"), ("drain", "evaluation")]
)
def test_a_lost_or_drained_node(
    tmp_path: Path, undisturbed: Path, nodes: Any, fault: str, moment: str, record_property: Any
) -> None:
    before = list(nodes.list_all_nodes)
    flags = ["--num-workers", "2", *(["--epochs", "60"] if fault == "drain" else [])]
    try:
        process = start(tmp_path, fault, moment, *flags, address=nodes.address)
        out = finish(process)
    finally:
        for node in before:
            if not node.live_processes() or fault == "drain":
                nodes.remove_node(node)
        while len(nodes.list_all_nodes) < 4:
            nodes.add_node(num_cpus=1)
    run = tmp_path / "run"
    if fault == "drain":
        assert "about to be taken away" in out
        assert [row["epoch"] for row in history(run)] == list(range(1, 61))
        for one, other in zip(history(undisturbed), history(run), strict=False):
            assert other["val_loss"] == pytest.approx(one["val_loss"], rel=1e-6)
    else:
        assert_same(run, undisturbed)
        assert "was lost" in out
    note_recovery(record_property, run)


@pytest.mark.faults
def test_twenty_kills_at_random_times(tmp_path: Path) -> None:
    flags = ["--num-workers", "2", "--epochs", "400", "--max-failures", "40"]
    finish(start(tmp_path / "expected", "none", "never", "--epochs", "400"))
    process = start(tmp_path / "soak", "none", "never", *flags)
    order = np.random.default_rng(7)
    kills = 0
    out: list[str] = []
    try:
        while kills < 20 and process.poll() is None:
            time.sleep(order.uniform(0.5, 5.0))
            workers = workers_of(process.pid)
            if workers:
                os.kill(int(order.choice(workers)), signal.SIGKILL)
                kills += 1
        out.extend(process.communicate(timeout=600))
    finally:
        process.kill()
    assert process.returncode == 0, out
    assert kills == 20
    assert_same(tmp_path / "soak/run", tmp_path / "expected/run")


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
