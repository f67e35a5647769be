"""Runs whose weights are written by hand, so that NumPy knows what comes out."""

from pathlib import Path

import keras
import numpy as np
import pytest

from annlib.artifacts import RunDirectory
from annlib.signature import Signature

SIGNATURE = Signature(
    task="regression",
    output="value",
    feature_names=("a", "b", "c"),
    target_name="price",
    input_shape=(3,),
    input_dtype="float32",
)


def write_run(path: Path, weights: list[float]) -> RunDirectory:
    """A finished run that gives `x @ weights + 0.5`."""
    path.mkdir(parents=True)
    run = RunDirectory(path)
    run.config.write_text("workload: diabetes\nepochs: 1\nglobal_batch_size: 1\nlearning_rate: 1\n")
    run.metrics.write_text("{}")
    run.signature.write_text(SIGNATURE.to_json())
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.layers[-1].set_weights([np.array(weights, np.float32)[:, None], np.array([0.5], np.float32)])
    model.save(run.model)
    return run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("runs") / "run", [1, 2, 4])


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return write_run(tmp_path_factory.mktemp("runs") / "other", [1, 2, 5])
