"""A run on `gs://`, kept by an emulator of Google's storage server, which takes anybody."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runs import ROOT, assert_same, finish, free_port, is_served, start, wait_for

from annlib.storage import Remote


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("gcp-storage-emulator", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("there is no emulator of Google's storage: install the package gcp-storage-emulator")
    port = free_port()
    flags = ["--host", "127.0.0.1", "--port", str(port), "--in-memory", "--default-bucket", "bucket"]
    process = subprocess.Popen([program, "start", *flags], cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_served(port), "the server", timeout_s=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_run_is_kept_and_goes_on(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    finish(start(tmp_path / "expected", "none", "never"))
    finish(start(tmp_path, "sigterm", "first-epoch", "--storage", "gs://bucket/runs"), code=143)
    out = finish(start(tmp_path, "none", "never", "--storage", "gs://bucket/runs"))
    assert "resuming after epoch" in out
    remote = Remote("gs://bucket/runs/run")
    for name in remote.list():
        remote.download(name, tmp_path / "fetched" / name)
    assert_same(tmp_path / "fetched", tmp_path / "expected/run")


@pytest.mark.slow
def test_a_store_without_credentials_is_one_line_soon(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "STORAGE_EMULATOR_HOST"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, str(ROOT / "jobs/train.py"), "digits", "--storage", "gs://bucket/runs"],
        # Nobody's home, and a metadata server that is not there.
        env={**environment, "HOME": str(tmp_path), "GCE_METADATA_ROOT": "127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "gs://bucket/runs" in done.stderr
    assert "GOOGLE_APPLICATION_CREDENTIALS" in done.stderr
    assert time.monotonic() - started < 100
