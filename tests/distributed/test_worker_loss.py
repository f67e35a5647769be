"""Workers of a real Ray cluster are killed, or fail by themselves: the run ends as if nothing had happened, or once."""

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

import pytest

ROOT = Path(__file__).resolve().parents[2]
# In float64 rounding is too small to switch a ReLU unit, so that any two runs agree far below 1e-6.
FLAGS = ["--epochs", "120", "--precision", "float64", "--checkpoint-every-s", "1"]
ENVIRONMENT = {**os.environ, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "-1"}


def command(storage: Path, name: str, *flags: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs/train.py"), "digits", "--storage", str(storage), "--name", name, *flags]


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def workers_of(driver: int) -> list[int]:
    """Returns the process ids of Ray Train's workers below a driver."""
    parents, titles = {}, {}
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = (directory / "stat").read_text()
            pid = int(directory.name)
            parents[pid] = int(status.rsplit(")", 1)[1].split()[1])
            titles[pid] = (directory / "cmdline").read_bytes()

    def is_below(pid: int) -> bool:
        return pid == driver or (pid in parents and is_below(parents[pid]))

    return sorted(pid for pid in parents if titles[pid].startswith(b"ray::RayTrainWorker") and is_below(pid))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("undisturbed")
    subprocess.run(command(storage, "run", *FLAGS), env=ENVIRONMENT, check=True, capture_output=True, timeout=120)
    return storage / "run"


@pytest.mark.parametrize("index", [0, pytest.param(1, marks=pytest.mark.faults)])
def test_a_killed_worker_changes_nothing(tmp_path: Path, undisturbed: Path, index: int) -> None:
    process = subprocess.Popen(
        command(tmp_path, "run", *FLAGS, "--num-workers", "2"),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("run/checkpoints/epoch-*")):
            assert time.monotonic() < deadline, "no checkpoint within 120 s"
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        workers = workers_of(process.pid)
        assert len(workers) == 2
        os.kill(workers[index], signal.SIGKILL)
        output, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert (process.returncode, errors) == (0, "")
    assert "was lost; Ray starts all workers again" in output
    assert "training again after" in output
    assert output.splitlines()[-1] == str(tmp_path / "run")
    expected, received = history(undisturbed), history(tmp_path / "run")
    assert [row["epoch"] for row in received] == list(range(1, 121))
    for one, other in zip(expected, received, strict=True):
        for name in ("loss", "val_loss", "sparse_categorical_accuracy"):
            assert other[name] == pytest.approx(one[name], rel=1e-9)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (metrics["attempts"], len(metrics["restarts"]), metrics["world_sizes"]) == (2, 1, [2, 2])
    assert 0 < metrics["restarts"][0]["seconds_lost"] < 120


def test_a_worker_that_fails_by_itself_fails_once(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import dataclasses, sys\n"
        "from pathlib import Path\n"
        "from rich.console import Console\n"
        "from annlib import run\n"
        "from annlib.command import run_command\n"
        "from annlib.config import load_config\n"
        "from annlib.workloads import find\n"
        "def build_model(data, config):\n"
        "    return {}['bug']\n"
        "workload = dataclasses.replace(find('digits'), build_model=build_model)\n"
        "config = load_config(\n"
        f"    {{'workload': 'digits', 'num_workers': 2, 'storage': {str(tmp_path / 'runs')!r}, 'name': 'bug'}},\n"
        "    defaults=workload.defaults,\n"
        ")\n"
        "sys.exit(run_command(lambda: run.train(config, workload, console=Console(file=sys.stdout))))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "failed: KeyError: 'bug'" in done.stderr
    log = (tmp_path / "runs/bug/run.log").read_text()
    for rank in (0, 1):
        assert (
            len(re.findall(rf"bug rank {rank} node \S+ ERROR annlib.training.distributed: the worker failed", log)) == 1
        )
