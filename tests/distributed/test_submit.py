"""Jobs on a Ray cluster with token authentication, submitted with `jobs/submit.py` and with Ray's own commands."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fault_runs import free_port, is_served, wait_for

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TOKEN = "test-token-0123456789abcdef0123456789abcdef"


class Cluster(NamedTuple):
    url: str
    metrics_port: int
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    # Ray's sockets need a short path.
    directory = Path(f"/tmp/annlib-{os.getpid()}")
    token = tmp_path_factory.mktemp("token") / "token"
    token.write_text(TOKEN)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "CUDA_VISIBLE_DEVICES": "-1",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    port, dashboard, metrics = free_port(), free_port(), free_port()
    command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"]
    command += [f"--port={port}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    command += ["--node-ip-address=127.0.0.1", f"--temp-dir={directory}", f"--metrics-export-port={metrics}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(lambda: is_served(dashboard), "the cluster", timeout_s=90)
        yield Cluster(f"http://127.0.0.1:{dashboard}", metrics, environment)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        # After a job, Ray takes half a minute to end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        shutil.rmtree(directory, ignore_errors=True)


def submit(cluster: Cluster, *words: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "jobs/submit.py", "--address", cluster.url, *words],
        cwd=ROOT,
        env={**cluster.environment, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]", *, timeout_s: float = 200) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, out, err


def job(storage: Path, name: str, *flags: str) -> list[str]:
    return ["--", "python", "jobs/train.py", "digits", "--storage", str(storage), "--name", name, *flags]


def metrics_of(cluster: Cluster) -> str:
    """Returns what Prometheus reads from the node."""
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.metrics_port}", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


def test_a_job_that_succeeds_runs_the_annlib_that_travels_with_it(cluster: Cluster, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in ("annlib", "jobs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    source = copy / "annlib/training/worker.py"
    source.write_text(source.read_text() + '\nlogger.warning("this copy runs: %s", __file__)\n')
    flags = ["--epochs", "30", "--num-workers", "2"]
    code, out, err = finish(submit(cluster, "--working-dir", str(copy), *job(tmp_path, "good", *flags)))
    assert code == 0, out + err
    # The log is shown once.
    assert out.count(f"\n{tmp_path}/good\n") == 1
    assert out.splitlines()[-1].endswith("succeeded, exit code 0")
    assert (tmp_path / "good/metrics.json").exists()
    log = (tmp_path / "good/run.log").read_text()
    for rank in (0, 1):
        assert re.search(rf"rank {rank} .*this copy runs: \S*runtime_resources", log)
    for path in (tmp_path / "good").rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    assert TOKEN not in out + err


def test_a_job_with_bad_input_returns_2(cluster: Cluster, tmp_path: Path) -> None:
    code, out, _ = finish(submit(cluster, *job(tmp_path, "bad", "--epochs", "-1")))
    assert code == 2
    assert "epochs from the command line is wrong" in out


@pytest.mark.slow
def test_a_stopped_job_leaves_a_checkpoint_and_returns_143(cluster: Cluster, tmp_path: Path) -> None:
    flags = ["--epochs", "100000", "--num-workers", "2"]
    process = submit(cluster, "--submission-id", "stopped", *job(tmp_path, "long", *flags))
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "long/history.csv").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "no epoch came"
            time.sleep(0.2)
        metrics = urllib.request.urlopen(f"http://127.0.0.1:{cluster.metrics_port}", timeout=10)
        assert metrics.status == 200
        stop = [str(BIN / "ray"), "job", "stop", "--address", cluster.url, "stopped"]
        subprocess.run(stop, env=cluster.environment, check=True, capture_output=True, timeout=120)
        code, out, err = finish(process)
    finally:
        process.kill()
    assert code == 143, out + err
    assert "interrupted after epoch" in out
    assert list((tmp_path / "long/checkpoints").glob("epoch-*"))
    logs = [str(BIN / "ray"), "job", "logs", "--address", cluster.url, "stopped"]
    shown = subprocess.run(logs, env=cluster.environment, check=True, capture_output=True, text=True, timeout=120)
    assert "interrupted after epoch" in shown.stdout


@pytest.mark.parametrize("token", ["wrong-token-77aa", None])
def test_without_the_token_nothing_is_submitted(cluster: Cluster, tmp_path: Path, token: str | None) -> None:
    path = tmp_path / "token"
    path.write_text(token or TOKEN)
    mode = "disabled" if token is None else "token"
    code, out, err = finish(
        submit(cluster, "--", "true", RAY_AUTH_TOKEN_PATH=str(path), RAY_AUTH_MODE=mode), timeout_s=60
    )
    assert code == 2, out + err
    assert len(err.splitlines()) == 1, err
    assert "expected its token, received" in err
    assert "77aa" not in out + err


def test_a_machine_without_any_token_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    environment = {**cluster.environment, "HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    environment.pop("RAY_AUTH_TOKEN_PATH", None)
    code, out, err = finish(submit(cluster._replace(environment=environment), "--", "true"), timeout_s=60)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1, err
    assert "RAY_AUTH_MODE=token wants a token" in err


def test_no_server_is_one_line(cluster: Cluster) -> None:
    process = submit(cluster._replace(url=f"http://127.0.0.1:{free_port()}"), "--", "true")
    code, _, err = finish(process, timeout_s=60)
    assert code == 2
    assert len(err.splitlines()) == 1, err
    assert "no Ray job server answers at" in err


@pytest.mark.slow
def test_rays_own_command_works_as_in_the_readme(cluster: Cluster, tmp_path: Path) -> None:
    command = [str(BIN / "ray"), "job", "submit", "--address", cluster.url, "--working-dir", ".", *job(tmp_path, "ray")]
    done = subprocess.run(
        [*command, "--epochs", "2", "--num-workers", "2"],
        cwd=ROOT,
        env=cluster.environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "ray/metrics.json").exists()
