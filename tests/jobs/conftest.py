"""Finished runs that several tests look at."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import warm
from rich.console import Console

import annlib.run
from annlib.config import load_config
from annlib.signature import Signature
from annlib.workloads import find

ROOT = Path(__file__).resolve().parents[2]
Job = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def job() -> Job:
    """Runs an entry point as a user does: `job("evaluate", run, "--json", path)`."""

    def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        return warm.run(ROOT / f"jobs/{name}.py", *map(str, arguments), env=warm.environment())

    return run


def train_here(storage: Path, workload: str, **values: object) -> Path:
    """Trains in this process, which has imported TensorFlow already."""
    import keras

    found = find(workload)
    given = {"workload": workload, "epochs": 3, "storage": storage, "name": workload, **values}
    config = load_config(given, defaults=found.defaults, environment={})
    try:
        assert annlib.run.train(config, found, console=Console(file=io.StringIO())) == 0
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    return config.run_path


@pytest.fixture(scope="session")
def digits(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    storage = tmp_path_factory.mktemp("runs")
    done = job("train", "digits", "--epochs", "3", "--storage", storage, "--name", "digits")
    assert done.returncode == 0, done.stderr
    return storage / "digits"


@pytest.fixture(scope="session")
def diabetes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A regression, kept as HDF5 alone."""
    return train_here(tmp_path_factory.mktemp("runs"), "diabetes", formats=["h5"])


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in mixed_float16, trained in two parts; processors would be refused, for they are slower with it."""
    monkeypatch.setattr("annlib.training.precision._COMPUTE_CAPABILITY", {})
    values = {"precision": "mixed_float16", "global_batch_size": 256, "optimizer": "adam"}
    train_here(tmp_path, "digits", epochs=1, **values)
    return train_here(tmp_path, "digits", epochs=2, **values)


@pytest.fixture(scope="session")
def setosa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A perceptron in float64, which gives a score."""
    return train_here(tmp_path_factory.mktemp("runs"), "iris-perceptron", precision="float64")


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A run of three features that is finished as far as its small files tell; it has no model."""
    path = tmp_path / "runs/small"
    path.mkdir(parents=True)
    (path / "config.yaml").write_text("workload: diabetes\nepochs: 1\nglobal_batch_size: 1\nlearning_rate: 1\n")
    (path / "metrics.json").write_text("{}")
    signature = Signature(
        task="regression",
        output="value",
        feature_names=("a", "b", "c"),
        target_name="price",
        input_shape=(3,),
        input_dtype="float32",
    )
    (path / "signature.json").write_text(signature.to_json())
    return path


@pytest.fixture(scope="session")
def imports() -> Callable[..., set[str]]:
    """Returns the packages that a command imports, by name."""

    def find_imports(job_name: str, *arguments: object) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-X", "importtime", str(ROOT / f"jobs/{job_name}.py"), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in lines}

    return find_imports
