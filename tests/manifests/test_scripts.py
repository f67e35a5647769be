"""The shell scripts of the ConfigMap do what the manifests count on, as they would in a pod."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from manifests import K8S

SCRIPTS = K8S / "base" / "config"
TIMEOUT_S = 60


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come in time"
        time.sleep(0.05)


def test_the_volume_gets_its_directories(tmp_path: Path) -> None:
    subprocess.run(["bash", SCRIPTS / "prepare-volume.sh", tmp_path], check=True, timeout=TIMEOUT_S)
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "logs", "cache"}


def test_a_volume_that_cannot_be_written_is_one_line() -> None:
    # /proc can be written by nobody, root included.
    done = subprocess.run(
        ["bash", SCRIPTS / "prepare-volume.sh", "/proc"], capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: /proc cannot be written by user ")
    assert "fsGroup" in line


def test_logs_are_kept_while_they_grow_and_once_more_at_the_end(tmp_path: Path) -> None:
    logs = tmp_path / "ray" / "session_2026-01-31_12-00-00_1" / "logs"
    (logs / "old").mkdir(parents=True)
    (logs / "raylet.out").write_text("started\n")
    (tmp_path / "ray" / "session_latest").symlink_to(logs.parent)
    kept = tmp_path / "volume" / "logs" / "cluster" / "pod"
    environment = {
        **os.environ,
        "KEEP_LOGS_FROM": str(tmp_path / "ray"),
        "KEEP_LOGS_TO": str(kept),
        "KEEP_LOGS_PERIOD_S": "0.2",
    }
    process = subprocess.Popen(["bash", SCRIPTS / "keep-logs.sh"], env=environment)
    try:
        copy = kept / logs.parent.name / "raylet.out"
        wait_until(lambda: copy.is_file() and copy.read_text() == "started\n")
        with (logs / "raylet.out").open("a") as file:
            file.write("goes on\n")
        wait_until(lambda: copy.read_text() == "started\ngoes on\n")
        process.send_signal(signal.SIGSTOP)
        (logs / "worker.err").write_text("last words\n")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGCONT)
        assert process.wait(timeout=TIMEOUT_S) == 0
    finally:
        process.kill()
    assert (copy.parent / "worker.err").read_text() == "last words\n"
    assert [path.name for path in kept.iterdir()] == [logs.parent.name]


def test_a_full_volume_does_not_end_the_sidecar(tmp_path: Path) -> None:
    logs = tmp_path / "session_2026-01-31_12-00-00_1" / "logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("started\n")
    environment = {
        **os.environ,
        "KEEP_LOGS_FROM": str(tmp_path),
        "KEEP_LOGS_TO": "/proc/logs",
        "KEEP_LOGS_PERIOD_S": "0.1",
    }
    messages = tmp_path / "messages"
    with messages.open("w") as file:
        process = subprocess.Popen(["bash", SCRIPTS / "keep-logs.sh"], env=environment, stderr=file)
    try:
        # It says so, and goes on trying.
        wait_until(lambda: messages.read_text().count("/proc/logs") >= 2)
        assert process.poll() is None
    finally:
        process.kill()


DRIVER = """
import pathlib, signal, sys, time
stopped = []
signal.signal(signal.SIGTERM, lambda signum, frame: stopped.append(signum))
pathlib.Path(sys.argv[1]).write_text("ready")
while not stopped:
    time.sleep(0.05)
time.sleep(float(sys.argv[2]))
pathlib.Path(sys.argv[1]).write_text("checkpoint")
"""


# A driver as Ray's job supervisor starts it, a Python below a shell, and the hook beside it.
POD = """
cd {directory}
sh -c "{python} jobs/{name} state {seconds}; true" &
until [ -s state ]; do sleep 0.05; done
bash {hook} {wait}
cat state
"""


def run_hook(directory: Path, name: str, *, seconds: float, wait: int) -> str:
    """Runs the head's preStop hook beside a driver, in a PID namespace, and returns the state it left the driver in."""
    (directory / "jobs").mkdir()
    (directory / "jobs" / name).write_text(DRIVER)
    pod = POD.format(
        directory=directory,
        python=sys.executable,
        name=name,
        seconds=seconds,
        hook=SCRIPTS / "stop-driver.sh",
        wait=wait,
    )
    # The hook signals what it finds in /proc, so it must not see this machine's.
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    if subprocess.run([*command, "true"], capture_output=True, timeout=TIMEOUT_S).returncode != 0:
        pytest.skip("this machine lets nobody make a PID namespace (unshare), in which alone the hook may be run")
    done = subprocess.run([*command, "bash", "-c", pod], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
    return done.stdout


def test_the_head_waits_for_the_drivers_checkpoint(tmp_path: Path) -> None:
    assert run_hook(tmp_path, "train.py", seconds=1.5, wait=30) == "checkpoint"


def test_the_head_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    assert run_hook(tmp_path, "train.py", seconds=50, wait=1) == "ready"


def test_the_head_does_not_stop_another_hook(tmp_path: Path) -> None:
    started = time.monotonic()
    assert run_hook(tmp_path, "drain.py", seconds=0, wait=50) == "ready"
    assert time.monotonic() - started < 50
