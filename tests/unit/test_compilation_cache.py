import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from annlib import compilation_cache

# Two models that differ in one constant, trained by XLA.
PROGRAM = """
    import json, logging, sys
    from annlib import compilation_cache
    compilation_cache.enable()
    import keras
    import numpy as np
    import annlib
    from annlib.training.engine import compilation

    logging.basicConfig(stream=sys.stderr)
    compilation.XLA_BREAK_EVEN_STEPS = 1
    x = np.random.default_rng(1).normal(size=(64, 8)).astype("float32")
    losses = []
    for scale in (1.0, 0.5):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((8,)), keras.layers.Rescaling(scale), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        losses.append(annlib.fit(model, x, x.sum(axis=1), epochs=2, verbose=0).history["loss"])
    print(json.dumps(losses))
"""


def run_program(cache: Path, **environment: str) -> tuple[Any, str]:
    """Returns the losses of both models, and the error stream."""
    kept = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env={**kept, "ANNLIB_CACHE_DIR": str(cache), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return json.loads(done.stdout), done.stderr


def files_of(cache: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in cache.glob("xla/*/*")}


@pytest.mark.slow
def test_what_was_compiled_is_found_by_the_next_process_and_a_damaged_file_stops_nothing(tmp_path: Path) -> None:
    without, _ = run_program(tmp_path, TF_XLA_FLAGS="")
    assert without[0] != without[1]
    assert not files_of(tmp_path)

    assert run_program(tmp_path)[0] == without
    files = files_of(tmp_path)
    assert len(files) == 2

    damaged, intact = files
    damaged.write_bytes(damaged.read_bytes()[:1000])
    files = files_of(tmp_path)
    losses, log = run_program(tmp_path)
    for received, expected in zip(losses, without, strict=True):
        assert received == pytest.approx(expected, rel=1e-6)
    assert log.count("XLA does not run this model, the plain graph takes over") == 1
    # All were removed, for one does not know which is damaged; the intact one may have been used before that.
    assert damaged not in files_of(tmp_path)
    assert files_of(tmp_path).get(intact) != files[intact]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    monkeypatch.setenv("ANNLIB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_directory_is_the_users_alone(cache: Path) -> None:
    compilation_cache.enable()
    (directory,) = cache.glob("xla/*")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert os.environ["TF_XLA_FLAGS"].split() == [
        f"--tf_xla_persistent_cache_directory={directory}",
        "--tf_xla_persistent_cache_device_types=CPU",
    ]


def test_each_version_and_processor_has_a_directory(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilation_cache.enable()
    for change in (
        lambda: monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
        lambda: monkeypatch.setattr("importlib.metadata.version", lambda _: "2.99.0"),
        lambda: monkeypatch.setattr(Path, "read_text", lambda _: "flags : sse avx512\n\nflags : sse"),
    ):
        known = set(cache.glob("xla/*"))
        change()
        monkeypatch.delenv("TF_XLA_FLAGS")
        compilation_cache.enable()
        assert len(set(cache.glob("xla/*")) - known) == 1


def test_the_oldest_files_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compilation_cache.enable()
    (directory,) = cache.glob("xla/*")
    for age in range(compilation_cache.MAX_FILES + 2):
        file = directory / f"{age}.pb"
        file.touch()
        os.utime(file, (1e9 - age, 1e9 - age))
    monkeypatch.delenv("TF_XLA_FLAGS")
    compilation_cache.enable()
    kept = {file.name for file in directory.iterdir()}
    assert kept == {f"{age}.pb" for age in range(compilation_cache.MAX_FILES)}

    compilation_cache.clear()
    assert not list(directory.iterdir())


def test_the_users_own_flags_stay(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_auto_jit=2")
    compilation_cache.enable()
    assert os.environ["TF_XLA_FLAGS"] == "--tf_xla_auto_jit=2"
    assert not cache.exists()


@pytest.mark.usefixtures("cache")
def test_no_cache_where_it_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "with space"):
        monkeypatch.setenv("ANNLIB_CACHE_DIR", str(directory))
        compilation_cache.enable()
        assert "TF_XLA_FLAGS" not in os.environ
    assert "compiled functions are not kept" in caplog.text
    compilation_cache.clear()


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("what", "value"), [("os.access", lambda *_: False), ("annlib.compilation_cache.MIN_FREE_BYTES", 2**70)]
)
def test_no_cache_without_the_right_to_write_or_without_room(
    monkeypatch: pytest.MonkeyPatch, what: str, value: Any
) -> None:
    monkeypatch.setattr(what, value)
    compilation_cache.enable()
    assert "TF_XLA_FLAGS" not in os.environ
