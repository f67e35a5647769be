"""A table and a file of the user's own on two Ray workers, against one process."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

import annlib

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow
# In float64 rounding is too small to switch a ReLU unit.
FLAGS = ["--epochs", "3", "--global-batch-size", "16", "--precision", "float64"]
PROGRAM = """
import keras
import numpy as np
from annlib import Dataset, Workload
from beside import NEURONS

def load_data(config):
    x = np.random.default_rng(0).normal(size=(200, 3))
    return Dataset.from_arrays(x, x.sum(axis=1), class_names=None)

def build_model(data, config):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(NEURONS, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(config.learning_rate), "mse", metrics=["mae"])
    return model

workload = Workload(load_data=load_data, build_model=build_model)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own")
    (path / "own.py").write_text(PROGRAM)
    (path / "beside.py").write_text("NEURONS = 7\n")
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"size": generator.normal(0, 5, 300), "kind": generator.choice(list("abc"), 300)})
    frame["many"] = np.char.add("v", generator.integers(0, 40, 300).astype(str))
    frame["price"] = 1e5 + frame["size"] * 1e3 + generator.normal(0, 100, 300)
    frame["weight"] = generator.random(300)
    frame.to_csv(path / "sales.csv", index=False)
    return path


def run_job(directory: Path, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / f"jobs/{job}.py"), *arguments],
        cwd=directory,
        env={**os.environ, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train(directory: Path, workload: list[str], name: str, *flags: str) -> list[dict[str, float]]:
    done = run_job(directory, "train", *workload, *FLAGS, "--storage", "runs", "--name", name, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    with (directory / f"runs/{name}/history.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("name", "workload"),
    [
        ("file", ["own.py:workload"]),
        ("table", ["table", "--data", "sales.csv", "--target", "price", "--weight", "weight"]),
    ],
)
def test_two_workers_follow_the_curve_of_one_process(directory: Path, name: str, workload: list[str]) -> None:
    one = train(directory, workload, f"{name}-one")
    two = train(directory, workload, f"{name}-two", "--num-workers", "2")
    for expected, received in zip(one, two, strict=True):
        for metric in ("loss", "val_loss", "val_mae"):
            assert received[metric] == pytest.approx(expected[metric], rel=1e-7)
    models = [annlib.load(directory / f"runs/{name}-{number}") for number in ("one", "two")]
    for expected, received in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-7)


def test_a_workload_of_a_file_is_searched(directory: Path) -> None:
    flags = ["--num-trials", "2", "--epochs", "2", "--metric", "val_mae", "--storage", "searches", "--name", "s"]
    done = run_job(directory, "tune", "own.py:workload", *flags)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    search = directory / "searches/s"
    trials = json.loads((search / "results.json").read_text())["trials"]
    assert [trial["state"] for trial in trials][:1] == ["finished"]
    rates = {yaml.safe_load(path.read_text())["learning_rate"] for path in search.glob("trial-*/config.yaml")}
    assert len(rates) == 2
    assert yaml.safe_load((search / "best.yaml").read_text())["learning_rate"] in rates
