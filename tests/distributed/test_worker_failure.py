"""A worker that fails by itself, through a bug, ends the run once, with its own error."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.mark.slow
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
        place = rf"^bug attempt 1 rank {rank} node \S+ "
        assert len(re.findall(place + r"\S+ \S+ ERROR \S+: the worker failed$", log, re.MULTILINE)) == 1
        # Each line of the traceback, and what TensorFlow writes by itself, says where it comes from.
        assert re.findall(place + r"KeyError: 'bug'$", log, re.MULTILINE)
    lines = [line for line in log.splitlines() if "Traceback" in line or "tensorflow" in line.lower()]
    assert lines
    assert all(line.startswith(("bug attempt 1 rank ", "driver ")) or " driver " in line for line in lines), lines
