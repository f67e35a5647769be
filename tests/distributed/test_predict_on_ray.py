"""`jobs/predict.py --num-workers 2` on a real Ray of its own: what is lost on the way, and what then stands there."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from object_store import object_store
from rich.console import Console

from annlib.errors import DataError, StorageError
from annlib.prediction.many_files import predict_files
from annlib.signature import Signature
from annlib.storage import Remote

ROOT = Path(__file__).resolve().parents[2]
NUM_FILES, NUM_ROWS, NUM_FEATURES = 12, 60_000, 4
NAMES = tuple(f"x{i}" for i in range(NUM_FEATURES))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes about a second for each of the files."""
    path = tmp_path_factory.mktemp("runs") / "run"
    path.mkdir()
    (path / "config.yaml").write_text("workload: diabetes\nepochs: 1\nglobal_batch_size: 1\nlearning_rate: 1\n")
    (path / "metrics.json").write_text("{}")
    signature = Signature(
        task="regression",
        output="value",
        feature_names=NAMES,
        target_name="y",
        input_shape=(NUM_FEATURES,),
        input_dtype="float32",
    )
    (path / "signature.json").write_text(signature.to_json())
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(1000, activation="tanh") for _ in range(3)]
    keras.Sequential([keras.Input((NUM_FEATURES,)), *layers, keras.layers.Dense(1)]).save(path / "model.keras")
    return path


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("new")
    rng = np.random.default_rng(0)
    for index in range(NUM_FILES):
        (directory / f"part={index % 3}").mkdir(exist_ok=True)
        table = pd.DataFrame(rng.normal(size=(NUM_ROWS, NUM_FEATURES)), columns=list(NAMES))
        table.loc[index, "x0"] = np.inf
        table.to_parquet(directory / f"part={index % 3}/{index}.parquet")
    return directory


def start(run: Path, new: Path, output: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "jobs/predict.py"), str(run), str(new), "-o", str(output), "--num-workers", "2"],
        env={**os.environ, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> list[str]:
    output, errors = process.communicate(timeout=240)
    assert (process.returncode, errors) == (0, ""), output + errors
    return output.splitlines()


def finished(output: Path) -> dict[str, int]:
    """The files that are there, and when they were written."""
    return {
        path.relative_to(output).as_posix(): path.stat().st_mtime_ns
        for path in output.rglob("*.parquet")
        if not path.name.startswith(".")
    }


def wait_for_files(output: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while len(finished(output)) < number:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def actors_below(pid: int) -> list[int]:
    """The processes of the actors of a driver's own Ray, by the name that Ray gives them."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                command = (process / "cmdline").read_bytes()
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ray::MapWorker") and f"ANNLIB_TEST_DRIVER={pid}".encode() in environment:
                found.append(int(process.name))
    return found


def assert_complete(run: Path, new: Path, output: Path) -> None:
    """All files, as Keras predicts them, nothing else."""
    model = keras.saving.load_model(run / "model.keras")
    for index in range(NUM_FILES):
        name = f"part={index % 3}/{index}"
        given = pd.read_parquet(new / f"{name}.parquet", partitioning=None).drop(index=index)
        found = pq.ParquetFile(output / f"{name}.parquet").read().to_pandas()
        predicted = found.pop("y" if "y" in found else "predicted_y")
        np.testing.assert_array_equal(found, given)
        some = slice(None, None, 97)
        expected = model.predict(given.to_numpy(np.float32)[some], verbose=0)[:, 0]
        np.testing.assert_allclose(predicted[some], expected, rtol=1e-4, atol=1e-5)
        assert pd.read_csv(output / f"_rejected/{name}.csv")["row"].tolist() == [index + 1]
    left = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    assert len(left) == 2 * NUM_FILES, left


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_was(run: Path, new: Path, tmp_path: Path) -> None:
    driver = start(run, new, tmp_path / "out")
    wait_for_files(tmp_path / "out", 3, driver)
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    time.sleep(3)  # its actors end by themselves
    before = finished(tmp_path / "out")
    assert 3 <= len(before) < NUM_FILES
    for name in before:
        assert pq.read_metadata(tmp_path / "out" / name).num_rows == NUM_ROWS - 1
    lines = finish(start(run, new, tmp_path / "out"))
    assert lines[0] == f"{NUM_FILES} files, {len(before)} of them done before, 0 changed since"
    after = finished(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    assert f"{NUM_FILES} rows are set aside, see {tmp_path}/out/_rejected" in lines
    assert_complete(run, new, tmp_path / "out")


@pytest.mark.slow
def test_a_killed_actor_is_replaced(run: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNLIB_TEST_DRIVER", str(os.getpid()))
    driver = start(run, new, tmp_path / "out")
    wait_for_files(tmp_path / "out", 2, driver)
    actors = actors_below(os.getpid())
    assert len(actors) == 2
    os.kill(actors[0], signal.SIGKILL)
    lines = finish(driver)
    assert any(line.startswith(f"predicted {NUM_FILES * (NUM_ROWS - 1):,} rows of {NUM_FILES} files") for line in lines)
    assert_complete(run, new, tmp_path / "out")


def test_input_and_output_on_an_object_store(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In this process: the same code as the actors'."""
    with object_store(tmp_path_factory.mktemp("store")) as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        remote = Remote("s3://bucket/new")
        table = pd.DataFrame(np.random.default_rng(0).normal(size=(50, NUM_FEATURES)), columns=list(NAMES))
        for name in ("day=1/a.parquet", "day=2/b.parquet", "notes.txt"):
            table.to_parquet(tmp_path / "file")
            remote.upload(tmp_path / "file", name)
        for pattern, num_before in (("day=1/*", 0), ("**/*.parquet", 1), ("", 2)):
            output = io.StringIO()
            console = Console(file=output, width=200)
            source = f"s3://bucket/new/{pattern}"
            assert predict_files(str(run), source, "s3://bucket/out/", console=console, error_console=console) == 0, (
                output.getvalue()
            )
            assert f"files, {num_before} of them done before" in output.getvalue()
        found = Remote("s3://bucket/out")
        assert sorted(found.list()) == ["day=1/a.parquet", "day=2/b.parquet"]
        found.download("day=2/b.parquet", tmp_path / "b.parquet")
        predicted = pd.read_parquet(tmp_path / "b.parquet")["predicted_y"]
        model = keras.saving.load_model(run / "model.keras")
        np.testing.assert_allclose(predicted, model.predict(table.to_numpy(np.float32), verbose=0)[:, 0], rtol=1e-4)
        with pytest.raises(DataError, match="matches no files"):
            predict_files(str(run), "s3://bucket/none/*.csv", "s3://bucket/out", console=console, error_console=console)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(
            StorageError, match=r"s3://bucket/new cannot be read: expected an object store that answers"
        ):
            predict_files(str(run), "s3://bucket/new", "s3://bucket/out", console=console, error_console=console)
