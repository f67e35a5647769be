"""The README's workload in a file of the user's own, trained as a user does."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm
from sklearn.datasets import load_wine

import annlib

ROOT = Path(__file__).resolve().parents[2]


def readme_program() -> str:
    section = (ROOT / "README.md").read_text().split("## Train your own model")[1]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return block.group(1)


def run_job(directory: Path, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return warm.run(ROOT / f"jobs/{job}.py", *arguments, env=os.environ, cwd=directory)


def train(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_job(directory, "train", *arguments, "--storage", "runs")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("own")
    (path / "wine.py").write_text(readme_program())
    return path


def test_the_readmes_lines_train(directory: Path) -> None:
    done = train(directory, "wine.py:wine", "--epochs", "50", "--name", "file")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    run = directory / "runs/file"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.9
    x, y = load_wine(return_X_y=True)
    accuracy = np.mean(annlib.load(run).predict(x.astype(np.float32), verbose=0).argmax(axis=1) == y)
    assert accuracy > 0.9
    assert (run / "pictures/confusion_matrix.png").exists()
    evaluated = run_job(directory, "evaluate", "runs/file", "--json", "figures.json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((directory / "figures.json").read_text())["metrics"] == metrics["test"]


def test_a_module_by_its_flag_with_flags_of_its_own(directory: Path) -> None:
    (directory / "my_package").mkdir()
    (directory / "my_package/wines.py").write_text(
        readme_program()
        + "from annlib.config import RunConfig\n"
        + "class WineConfig(RunConfig):\n    neurons: int = 30\n"
        + "own = Workload(load_data=wine.load_data, build_model=build_model, config_class=WineConfig)\n"
    )
    done = train(
        directory, "--workload", "my_package.wines:own", "--neurons", "40", "--epochs", "1", "--name", "module"
    )
    assert done.returncode == 0, done.stderr
    assert "neurons: 40" in (directory / "runs/module/config.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["none.py:wine"], "none.py does not exist"),
        (["wine.py:vine"], "Give wine.py:wine"),
        (["digits", "--workload", "wine.py:wine"], "expected one workload, received digits and wine.py:wine"),
        (["wine.py:wine", "--monitor", "val_acc"], "expected one of loss, accuracy, val_loss, val_accuracy"),
        (["wine.py:wine", "--target", "x"], "--target"),
    ],
)
def test_a_bad_command_is_one_line(directory: Path, arguments: list[Any], part: str) -> None:
    done = train(directory, *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert part in done.stderr


def test_a_search_by_a_metric_that_the_model_lacks_is_refused_before_anything_starts(directory: Path) -> None:
    metric = ("--metric", "val_f1", "--monitor-mode", "max")
    done = run_job(directory, "tune", "wine.py:wine", *metric, "--storage", "searches")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert "expected one of val_loss, val_accuracy, received 'val_f1'. Correct --metric." in done.stderr
    assert not any((directory / "searches").glob("*/search.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('Dense(3, "softmax")', 'Dense(2, "softmax")', "Received a label value of 2 which is outside the valid"),
        ("[scale, ", "[keras.Input((7,)), ", "ValueError: Input 0 "),
    ],
    ids=["targets", "inputs"],
)
def test_a_model_that_does_not_fit_its_data_is_one_line(directory: Path, old: str, new: str, reason: str) -> None:
    assert old in readme_program()
    (directory / "misfit.py").write_text(readme_program().replace(old, new))
    done = train(directory, "misfit.py:wine", "--epochs", "1", "--name", reason[:5])
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: the training failed: {reason}")
    assert "Traceback" in (directory / "runs" / reason[:5] / "run.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("is_registered", [True, False])
def test_a_layer_of_ones_own_is_found_again_or_it_is_said_that_it_is_not(directory: Path, is_registered: bool) -> None:
    register = "@keras.saving.register_keras_serializable()\n" if is_registered else ""
    layer = f"{register}class Square(keras.layers.Layer):\n    def call(self, x):\n        return x * x\n\n\n"
    program = readme_program().replace("def build_model", layer + "def build_model", 1)
    program = program.replace("[scale, ", "[scale, Square(), ")
    name = f"square_{is_registered}"
    (directory / f"{name}.py").write_text(program)
    done = train(directory, f"{name}.py:wine", "--epochs", "1", "--name", name)
    assert done.returncode == 0, done.stderr
    assert ("this model will not be loaded again" in done.stdout) == (not is_registered)
    np.save(directory / "x.npy", np.ones((2, 13)))
    done = run_job(directory, "predict", f"runs/{name}", "x.npy", "-o", f"{name}.csv")
    assert done.returncode == (0 if is_registered else 2), done.stderr
    assert (directory / f"{name}.csv").exists() == is_registered


@pytest.mark.slow
def test_a_model_of_several_targets_is_evaluated_and_predicts(directory: Path) -> None:
    (directory / "pair.py").write_text(
        "import keras\nimport numpy as np\nfrom annlib import Dataset, Workload\n\n"
        "def load_data(config):\n"
        "    x = np.random.default_rng(0).normal(size=(200, 3))\n"
        "    return Dataset.from_arrays(x, np.stack([x.sum(axis=1), 5 - x[:, 0]], axis=1))\n\n"
        "def build_model(data, config):\n"
        "    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
        "    model.compile(keras.optimizers.SGD(config.learning_rate), 'mse')\n"
        "    return model\n\n"
        "pair = Workload(load_data=load_data, build_model=build_model)\n"
    )
    done = train(directory, "pair.py:pair", "--epochs", "30", "--learning-rate", "0.1", "--name", "pair")
    assert (done.returncode, done.stderr) == (0, "")
    evaluated = run_job(directory, "evaluate", "runs/pair", "--json", "pair.json")
    assert evaluated.returncode == 0, evaluated.stderr
    figures = json.loads((directory / "pair.json").read_text())
    assert figures["mse"] == pytest.approx(figures["metrics"]["loss"], rel=1e-4)
    assert figures["r2"] > 0.99
    np.save(directory / "rows.npy", np.array([[1.0, 2.0, 3.0]], np.float32))
    predicted = run_job(directory, "predict", "runs/pair", "rows.npy", "-o", "pair.csv")
    assert predicted.returncode == 0, predicted.stderr
    name, values = (directory / "pair.csv").read_text().splitlines()
    assert name == "index,predicted_target_0,predicted_target_1"
    assert [float(value) for value in values.split(",")] == pytest.approx([0, 6, 4], abs=0.1)
