"""A range of workers: the run grows with the cluster and shrinks with it, and its curve stays."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_runs import finish, history, metrics_of, note_recovery, start, wait_for

from annlib.artifacts import RunDirectory
from annlib.training import attempts


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A head without CPUs and one node of one CPU."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_a_run_grows_and_shrinks_with_the_cluster(tmp_path: Path, nodes: Any, record_property: Any) -> None:
    finish(start(tmp_path / "expected", "none", "never", "--epochs", "1000"))
    process = start(tmp_path, "none", "never", "--num-workers", "1:2", "--epochs", "100000", address=nodes.address)
    run = RunDirectory(tmp_path / "run")

    def num_trained() -> int:
        return len([event for event in attempts.read(run) if event["event"] == "training"])

    try:
        wait_for(lambda: num_trained() == 1, "training, 1", timeout_s=90)
        second = nodes.add_node(num_cpus=1)
        wait_for(lambda: num_trained() == 2, "training, 2", timeout_s=90)
        nodes.remove_node(second, allow_graceful=False)
        wait_for(lambda: num_trained() == 3, "training, 3", timeout_s=90)
        process.terminate()
        finish(process, code=128 + signal.SIGTERM)
    finally:
        process.kill()
    summary = attempts.summary(attempts.read(run))
    assert (summary["attempts"], summary["world_sizes"]) == (3, [1, 2, 1])
    note_recovery(record_property, summary)
    rows = history(run.path)
    assert len(rows) < 1000
    for one, other in zip(history(tmp_path / "expected/run"), rows, strict=False):
        assert one["epoch"] == other["epoch"]
        for name in ("loss", "val_loss"):
            assert other[name] == pytest.approx(one[name], rel=1e-6)


@pytest.mark.slow
def test_a_range_starts_with_what_there_is(tmp_path: Path, nodes: Any) -> None:
    out = finish(start(tmp_path, "none", "never", "--num-workers", "1:4", address=nodes.address))
    assert metrics_of(tmp_path / "run")["world_sizes"] == [1], out
