"""The fault matrix: whatever happens, and whenever, a run ends with the history and weights of an undisturbed one."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_runs import assert_same, finish, history, metrics_of, note_recovery, start, wait_for, workers_of

MOMENTS = ("first-epoch", "checkpoint", "evaluation", "last-epoch")


WORKER_FAULTS = [
    pytest.param(fault, moment, marks=() if (fault, moment) == ("kill-0", "checkpoint") else pytest.mark.slow)
    for fault in ("kill-0", "kill-1", "stop-1")
    for moment in MOMENTS
]
# A checkpoint to damage is there from the second epoch on at the latest.
WORKER_FAULTS += [pytest.param(fault, "last-epoch", marks=pytest.mark.slow) for fault in ("corrupt", "truncate")]
WORKER_FAULTS += [pytest.param(fault, "validation", marks=pytest.mark.slow) for fault in ("kill-0", "kill-1")]


@pytest.mark.parametrize(("fault", "moment"), WORKER_FAULTS)
def test_a_lost_worker(tmp_path: Path, undisturbed: Path, fault: str, moment: str, record_property: Any) -> None:
    flags = ["--num-workers", "2", *(["--worker-timeout-s", "8"] if fault == "stop-1" else [])]
    out = finish(start(tmp_path, fault, moment, *flags))
    assert (tmp_path / "marker").exists()
    assert_same(tmp_path / "run", undisturbed)
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["attempts"], len(metrics["restarts"])) == (2, 1), out
    rank = 1 if fault.endswith("1") else 0
    assert f"rank {rank} {'does not answer' if fault == 'stop-1' else 'was lost'}" in out
    if fault in ("corrupt", "truncate"):
        assert "is damaged and is passed over" in (tmp_path / "run/run.log").read_text()
    note_recovery(record_property, metrics)


DRIVER_FAULTS = [
    pytest.param(
        fault,
        moment,
        workers,
        marks=() if (fault, moment, workers) == ("driver", "checkpoint", "0") else pytest.mark.slow,
    )
    for fault in ("driver", "sigterm")
    for moment in MOMENTS
    for workers in ("0", "2")
]
DRIVER_FAULTS += [pytest.param("sigterm", "validation", workers, marks=pytest.mark.slow) for workers in ("0", "2")]


@pytest.mark.parametrize(("fault", "moment", "num_workers"), DRIVER_FAULTS)
def test_a_lost_or_stopped_driver(tmp_path: Path, undisturbed: Path, fault: str, moment: str, num_workers: str) -> None:
    flags = ["--num-workers", num_workers]
    code = -signal.SIGKILL if fault == "driver" else 128 + signal.SIGTERM
    run = tmp_path / "run"
    process = start(tmp_path, fault, moment, *flags)
    if (fault, moment) == ("sigterm", "last-epoch"):
        # The signal may come after the last step, when there is nothing left to stop.
        out = finish(process, code=(0, code))
        if process.returncode == 0:
            assert_same(run, undisturbed)
            return
    else:
        out = finish(process, code=code)
    assert not (run / "metrics.json").exists()
    if fault == "sigterm":
        assert "interrupted after epoch" in out
        assert list((run / "checkpoints").glob("epoch-*"))
    out = finish(start(tmp_path, fault, moment, *flags))
    if fault == "sigterm":
        assert "resuming after epoch" in out
    if moment == "validation":
        # All steps of the second epoch, and no more.
        assert "resuming after epoch 1 and " in out
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "moment"), [*(("node", moment) for moment in MOMENTS), ("drain", "first-epoch"), ("drain", "evaluation")]
)
def test_a_lost_or_drained_node(
    tmp_path: Path, undisturbed: Path, nodes: Any, fault: str, moment: str, record_property: Any
) -> None:
    before = list(nodes.worker_nodes)
    flags = ["--num-workers", "2", *(["--epochs", "60"] if fault == "drain" else [])]
    try:
        process = start(tmp_path, fault, moment, *flags, address=nodes.address)
        out = finish(process)
    finally:
        for node in before:
            if not node.live_processes() or fault == "drain":
                nodes.remove_node(node)
        while len(nodes.worker_nodes) < 3:
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
    note_recovery(record_property, metrics_of(run))


def num_rows(run: Path) -> int:
    return len(history(run)) if (run / "history.csv").exists() else 0


@pytest.mark.slow
def test_twenty_kills_at_random_times(tmp_path: Path) -> None:
    flags = ["--num-workers", "2", "--epochs", "150", "--max-failures", "40"]
    finish(start(tmp_path / "expected", "none", "never", "--epochs", "150"))
    process = start(tmp_path / "soak", "none", "never", *flags)
    order = np.random.default_rng(7)
    kills = 0
    out: list[str] = []
    try:
        while kills < 20 and process.poll() is None:
            # Every other one strikes workers that train, the others at any time, workers that start as well.
            if kills % 2:
                rows = num_rows(tmp_path / "soak/run")
                wait_for(
                    lambda rows=rows: num_rows(tmp_path / "soak/run") > rows or process.poll() is not None, "training"
                )
            time.sleep(order.uniform(0.0, 2.0 if kills % 2 else 25.0))
            workers = workers_of(process.pid)
            if workers:
                os.kill(int(order.choice(workers)), signal.SIGKILL)
                kills += 1
        out.extend(process.communicate(timeout=900))
    finally:
        process.kill()
    assert process.returncode == 0, out
    assert kills == 20
    assert len(metrics_of(tmp_path / "soak/run")["restarts"]) >= 10
    assert_same(tmp_path / "soak/run", tmp_path / "expected/run")
