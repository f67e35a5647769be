"""Training over hosts with a network between them: the same curve, and what a cut cable does."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hosts
import pytest
from fault_runs import FLAGS, HERE, assert_same, errors_of, finish, metrics_of, note_recovery, wait_for
from fault_runs import start as start_here

from annlib.artifacts import RunDirectory
from annlib.training import attempts
from annlib.training.distributed.launch import TELL_WAIT_S

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster() -> Iterator[hosts.Cluster]:
    with hosts.cluster() as made:
        yield made


def start(cluster: hosts.Cluster, storage: Path, moment: str, *flags: str) -> "subprocess.Popen[str]":
    """Starts a run on the head that waits at `moment` until the test takes the marker away."""
    program = ["python", str(HERE / "faulty.py"), "wait", moment, str(storage / "marker")]
    return cluster.start(*program, "--storage", str(storage), "--name", "run", *FLAGS, *flags)


def events(run: Path) -> list[str]:
    return [event["event"] for event in attempts.read(RunDirectory(run))]


def host_of_rank(workers: list[hosts.Host], run: Path, rank: int) -> hosts.Host:
    """Returns the host that the last attempt runs a rank on."""
    name = [event["node"] for event in attempts.read(RunDirectory(run)) if event.get("rank") == rank][-1]
    return next(host for host in workers if host.name == name)


def test_two_hosts_train_the_curve_of_one_process(cluster: hosts.Cluster, tmp_path: Path, undisturbed: Path) -> None:
    cluster.add("a")
    process = start(cluster, tmp_path, "never", "--num-workers", "2")
    # A head without CPUs has nodes that come when they come.
    wait_for((tmp_path / "run/attempts.jsonl").exists, "the driver", timeout_s=120)
    time.sleep(TELL_WAIT_S)
    cluster.add("b")
    out = finish(process)
    assert (
        "waiting for the workers to start: expected 2 free CPUs for 2 workers, received 1 CPUs in all on a, head" in out
    )
    assert_same(tmp_path / "run", undisturbed)
    assert metrics_of(tmp_path / "run")["world_sizes"] == [2]


def test_ray_job_submit_trains_over_two_hosts(cluster: hosts.Cluster, tmp_path: Path, undisturbed: Path) -> None:
    for name in "ab":
        cluster.add(name)
    submit = ["ray", "job", "submit", "--address", cluster.url, "--working-dir", ".", "--"]
    train = ["python", "jobs/train.py", "digits", "--num-workers", "2", "--name", "run", *FLAGS]
    finish(cluster.start(*submit, *train, "--storage", str(tmp_path)))
    assert_same(tmp_path / "run", undisturbed)
    # Of the command line: expected, received and what to do, and the job's own failure.
    finish(cluster.start(*submit, *train, "--storage", str(tmp_path), "--epochs", "0"), code=1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_host_that_is_cut_off_is_replaced(
    cluster: hosts.Cluster, tmp_path: Path, undisturbed: Path, rank: int, record_property: Any
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
    assert_same(tmp_path / "run", undisturbed)
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["attempts"], len(metrics["restarts"])) == (2, 1), out
    note_recovery(record_property, metrics)


def test_a_host_is_drained_before_it_goes(cluster: hosts.Cluster, tmp_path: Path, record_property: Any) -> None:
    finish(start_here(tmp_path / "expected", "none", "never", "--epochs", "60"))
    workers = [cluster.add(name) for name in "abc"]
    process = start(cluster, tmp_path, "never", "--num-workers", "2", "--epochs", "60")
    try:
        wait_for(lambda: "training" in events(tmp_path / "run"), "training", timeout_s=120)
        host = host_of_rank(workers, tmp_path / "run", 1)
        drained = subprocess.run(
            host.inside("python", "jobs/drain.py", "--deadline-s", "20"),
            env={**cluster.environment, "RAY_ADDRESS": cluster.address},
            capture_output=True,
            text=True,
            check=False,
        )
        assert drained.returncode == 0, drained.stdout + drained.stderr
        assert drained.stdout == "the node may go\n"
        host.kill()
        out = finish(process)
    finally:
        process.kill()
    assert_same(tmp_path / "run", tmp_path / "expected/run")
    assert "the nodes of ranks [1] are about to be taken away; saving until then" in out
    assert f"the node of rank 1 is taken away (node {host.name})" in out
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["attempts"], len(metrics["restarts"])) == (2, 1), out
    note_recovery(record_property, metrics)


def test_the_drivers_host_is_drained_before_it_goes(cluster: hosts.Cluster, tmp_path: Path) -> None:
    finish(start_here(tmp_path / "expected", "none", "never", "--epochs", "60"))
    for name in "ab":
        cluster.add(name)
    process = start(cluster, tmp_path, "never", "--num-workers", "2", "--epochs", "60")
    try:
        wait_for(lambda: "training" in events(tmp_path / "run"), "training", timeout_s=120)
        drain = cluster.start("python", "jobs/drain.py", "--deadline-s", "60")
        out = finish(process, code=143)
        assert "interrupted after epoch" in out
        assert finish(drain).startswith("the node may go\n")
    finally:
        process.kill()
    out = finish(start_here(tmp_path, "none", "never", "--epochs", "60"))
    assert "resuming after epoch" in out
    assert_same(tmp_path / "run", tmp_path / "expected/run")


def test_hosts_without_shared_storage_are_refused(cluster: hosts.Cluster, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    cluster.add("a", hidden=storage)
    cluster.add("b")
    process = start(cluster, storage, "never", "--num-workers", "2")
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 2, out + errors
    (line,) = errors_of(errors)
    assert f"on node a does not see the run directory {storage / 'run'}: expected storage that all nodes share" in line
    assert not list((storage / "run/checkpoints").glob("epoch-*"))


def test_a_search_over_hosts_without_shared_storage_is_refused(cluster: hosts.Cluster, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    cluster.add("a", hidden=storage)
    process = cluster.start(
        *("python", "jobs/tune.py", "digits", "--num-trials", "2", "--storage", str(storage), "--name", "search")
    )
    out, errors = process.communicate(timeout=180)
    assert process.returncode == 2, out + errors
    (line,) = errors_of(errors)
    assert f"a trial on node a does not see the run directory {storage / 'search'}: expected storage that all" in line
