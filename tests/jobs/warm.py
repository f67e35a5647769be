"""Runs entry points in forks of a process that has imported TensorFlow already, which halves their time."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

_TIMEOUT_S = 120
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["keras", "pandas", "pyarrow.parquet", "matplotlib.pyplot", "sklearn.compose"])


def environment(**variables: str) -> dict[str, str]:
    """That of this process, without annlib's own variables and without graphics processors."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANNLIB_")}
    return {**kept, "CUDA_VISIBLE_DEVICES": "-1", **variables}


def run(
    script: Path, *arguments: str, env: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Does what `subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)` would."""
    with tempfile.TemporaryDirectory() as directory:
        outputs = [Path(directory, name) for name in ("stdout", "stderr")]
        process = _FORKS.Process(target=_run, args=(script, arguments, dict(env), cwd or Path.cwd(), outputs))
        # The process that is forked says something as it imports TensorFlow.
        with mock.patch.dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3"):
            process.start()
        process.join(_TIMEOUT_S)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(str(script), _TIMEOUT_S)
        texts = [path.read_text() for path in outputs]
        return subprocess.CompletedProcess([str(script), *arguments], process.exitcode, *texts)


def _run(script: Path, arguments: list[str], env: dict[str, str], cwd: Path, outputs: list[Path]) -> None:
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [str(script), *arguments]
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")
