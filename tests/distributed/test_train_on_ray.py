"""`jobs/train.py --num-workers 2` on a real Ray cluster of its own, against one process and against Keras."""

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_runs import Faulty, finish, wait_for

ROOT = Path(__file__).resolve().parents[2]
# More steps than the engine's first chunk, so that the workers also agree on the size of the next one.
FLAGS = ["--epochs", "3", "--global-batch-size", "8"]


def start(storage: Path, name: str, *flags: str) -> Faulty:
    command = [sys.executable, str(ROOT / "jobs/train.py"), "digits", "--storage", str(storage), "--name", name, *flags]
    environment = {**os.environ, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def train(storage: Path, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    with start(storage, name, *flags) as process:
        out, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    storage = tmp_path_factory.mktemp("runs")
    done = train(storage, "one", *FLAGS)
    assert done.returncode == 0, done.stdout + done.stderr
    process = start(storage, "two", *FLAGS, "--num-workers", "2")
    events = storage / "two/attempts.jsonl"
    wait_for(lambda: process.poll() is not None or (events.exists() and '"training"' in events.read_text()), "training")
    servers = storage / "servers.json"
    servers.write_text(json.dumps(sorted(servers_of(process.pid))))
    assert finish(process).splitlines()[-1] == str(storage / "two")
    return {"one": storage / "one", "two": storage / "two", "servers of two": servers}


def processes_below(pid: int) -> list[int]:
    """Returns a process and all that it started, and those that these started."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name, which may hold anything: state and parent.
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return sorted(below)


def servers_of(driver: int) -> set[tuple[str, int]]:
    """Returns the addresses and ports, as the kernel writes them, that processes below a driver listen at."""
    servers = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                address, port = local.split(":")
                servers[f"socket:[{inode}]"] = (address, int(port, 16))
    found = set()
    for pid in processes_below(driver):
        for path in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                found |= {servers[target]} if (target := os.readlink(path)) in servers else set()
    return found


def test_other_machines_reach_nothing_of_a_run_of_this_machine(runs: dict[str, Path]) -> None:
    loopback = {"0100007F", f"{'0' * 16}FFFF00000100007F", f"{'0' * 24}01000000"}
    servers = json.loads(runs["servers of two"].read_text())
    others = {port for address, port in servers if address not in loopback}
    assert len(servers) > 10  # of Ray
    # Of TensorFlow.
    log = (runs["two"] / "run.log").read_text()
    assert others == set(map(int, re.findall(r"the server at port (\d+) answers by the loopback interface alone", log)))
    assert len(others) == 2


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_two_workers_follow_the_curve_of_one_process(runs: dict[str, Path]) -> None:
    one, two = history(runs["one"]), history(runs["two"])
    assert [row["epoch"] for row in two] == [1, 2, 3]
    for expected, received in zip(one, two, strict=True):
        for name in ("loss", "val_loss", "sparse_categorical_accuracy", "val_sparse_categorical_accuracy"):
            assert received[name] == pytest.approx(expected[name], rel=1e-5)


def test_the_saved_weights_agree(runs: dict[str, Path]) -> None:
    import keras

    one, two = (keras.saving.load_model(runs[name] / "model.keras") for name in ("one", "two"))
    for expected, received in zip(one.get_weights(), two.get_weights(), strict=True):
        assert np.linalg.norm(received - expected) <= 1e-5 * np.linalg.norm(expected)


def test_the_metrics_are_those_of_keras(runs: dict[str, Path]) -> None:
    import keras

    from annlib import data

    test = data.load("digits").test
    model = keras.saving.load_model(runs["two"] / "model.keras")
    expected: dict[str, Any] = model.evaluate(test.x, test.y, verbose=0, return_dict=True)
    metrics = json.loads((runs["two"] / "metrics.json").read_text())
    assert metrics["num_workers"] == 2
    assert metrics["test"] == pytest.approx(expected, rel=1e-5)


def test_the_workers_share_one_copy_of_the_data(runs: dict[str, Path]) -> None:
    # The one that came first tells, whichever that is.
    lines = (runs["two"] / "run.log").read_text().splitlines()
    assert len([line for line in lines if "2 workers of this node share the data set" in line]) == 1


def test_the_same_name_says_that_the_run_is_finished(runs: dict[str, Path]) -> None:
    done = train(runs["two"].parent, "two", *FLAGS)
    assert done.returncode == 0
    assert "is finished" in done.stdout


def test_too_many_workers_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = train(tmp_path, "many", "--num-workers", "99")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "99" in done.stderr
    assert not (tmp_path / "many").exists()


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_that_a_run_goes_on_from(tmp_path: Path) -> None:
    # In float64 rounding is too small to switch a ReLU unit, so that the curves agree far below 1e-5 for many epochs.
    flags = ["--epochs", "400", "--precision", "float64", "--checkpoint-every-s", "0.5"]
    arguments = [sys.executable, str(ROOT / "jobs/train.py"), "digits", "--storage", str(tmp_path), "--name", "stopped"]
    process = subprocess.Popen(
        [*arguments, *flags, "--num-workers", "2"],
        env={**os.environ, "RAY_ADDRESS": "local"},
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("stopped/checkpoints/epoch-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    assert not (tmp_path / "stopped/metrics.json").exists()
    stopped_after = len(history(tmp_path / "stopped"))
    assert stopped_after < 400
    flags[1] = str(stopped_after + 20)
    done = train(tmp_path, "stopped", *flags, "--num-workers", "2")
    assert done.returncode == 0, done.stderr
    assert f"resuming after epoch {stopped_after}" in done.stdout
    assert train(tmp_path, "local", *flags).returncode == 0
    for expected, received in zip(history(tmp_path / "local"), history(tmp_path / "stopped"), strict=True):
        for name in ("loss", "val_loss"):
            assert received[name] == pytest.approx(expected[name], rel=1e-10)
    names = {name: {path.name for path in (tmp_path / name).iterdir()} for name in ("local", "stopped")}
    assert names["stopped"] == names["local"] | {"attempts.jsonl"}
