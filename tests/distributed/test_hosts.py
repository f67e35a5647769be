"""Training over hosts with a network between them: the same curve, and what a cut cable does."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import pytest
from fault_runs import FLAGS, HERE, assert_same, finish, metrics_of, note_recovery
from hosts import wait_for

from annlib.artifacts import RunDirectory
from annlib.training import attempts

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of one process, undisturbed."""
    from fault_runs import start

    storage = tmp_path_factory.mktemp("expected")
    finish(start(storage, "none", "never"))
    return storage / "run"


@pytest.fixture
def cluster() -> Iterator[hosts.Cluster]:
    with hosts.cluster() as made:
        yield made


def start(cluster: hosts.Cluster, storage: Path, moment: str, *flags: str) -> "subprocess.Popen[str]":
    """Starts a run on the head that waits at `moment` until the test takes the marker away."""
    program = ["python", str(HERE / "faulty.py"), "wait", moment, str(storage / "marker")]
    return cluster.start(*program, "--storage", str(storage), "--name", "run", *FLAGS, *flags)


def host_of_rank(workers: list[hosts.Host], run: Path, rank: int) -> hosts.Host:
    """Returns the host that the last attempt runs a rank on."""
    name = [event["node"] for event in attempts.read(RunDirectory(run)) if event.get("rank") == rank][-1]
    return next(host for host in workers if host.name == name)


def test_two_hosts_train_the_curve_of_one_process(cluster: hosts.Cluster, tmp_path: Path, expected: Path) -> None:
    for name in "ab":
        cluster.add(name)
    finish(start(cluster, tmp_path, "never", "--num-workers", "2"))
    assert_same(tmp_path / "run", expected)
    assert metrics_of(tmp_path / "run")["world_sizes"] == [2]


def test_ray_job_submit_trains_over_two_hosts(cluster: hosts.Cluster, tmp_path: Path, expected: Path) -> None:
    for name in "ab":
        cluster.add(name)
    submit = ["ray", "job", "submit", "--address", cluster.url, "--working-dir", ".", "--"]
    train = ["python", "jobs/train.py", "digits", "--num-workers", "2", "--name", "run", *FLAGS]
    finish(cluster.start(*submit, *train, "--storage", str(tmp_path)))
    assert_same(tmp_path / "run", expected)
    # Of the command line: expected, received and what to do, and the job's own failure.
    finish(cluster.start(*submit, *train, "--storage", str(tmp_path), "--epochs", "0"), code=1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_host_that_is_cut_off_is_replaced(
    cluster: hosts.Cluster, tmp_path: Path, expected: Path, rank: int, record_property: Any
) -> None:
    workers = [cluster.add(name) for name in "abc"]
    process = start(cluster, tmp_path, "last-epoch", "--num-workers", "2")
    try:
        wait_for((tmp_path / "marker").exists, "the last epoch", timeout_s=120)
        host_of_rank(workers, tmp_path / "run", rank).cut()
        (tmp_path / "marker").unlink()
        out = finish(process)
    finally:
        process.kill()
    assert_same(tmp_path / "run", expected)
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["attempts"], len(metrics["restarts"])) == (2, 1), out
    note_recovery(record_property, metrics)
