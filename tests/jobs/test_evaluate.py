"""`jobs/evaluate.py` as a user runs it, against metrics.json and against scikit-learn on Keras' predictions."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annlib import data
from annlib.artifacts import RunDirectory
from annlib.errors import CheckpointError, ConfigError, StorageError
from annlib.evaluation import evaluate_run


def metrics_of(run: Path, split: str) -> dict[str, float]:
    metrics: dict[str, float] = json.loads((run / "metrics.json").read_text())[split]
    return metrics


def test_the_figures_are_printed_and_written(job: Any, digits: Path, tmp_path: Path) -> None:
    import keras
    from sklearn.metrics import classification_report

    done = job("evaluate", digits, "--json", tmp_path / "figures.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(digits)
    assert max(len(line) for line in done.stdout.splitlines()[:-1]) <= 80
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["split"], figures["num_samples"], figures["workload"]) == ("test", 450, "digits")
    assert figures["metrics"] == pytest.approx(metrics_of(digits, "test"), rel=1e-6)

    test = data.load("digits").test
    labels = keras.saving.load_model(digits / "model.keras").predict(test.x, verbose=0).argmax(axis=1)
    report = classification_report(test.y, labels, output_dict=True, zero_division=0)
    assert figures["accuracy"] == pytest.approx(report["accuracy"])
    for digit, row in enumerate(figures["classes"]):
        expected = report[str(digit)]
        assert row == pytest.approx(
            {
                "name": str(digit),
                "precision": expected["precision"],
                "recall": expected["recall"],
                "f1": expected["f1-score"],
                "support": expected["support"],
            }
        )
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"│ {digit} "))
        shown = [cell.strip() for cell in line.strip("│").split("│")][1:]
        assert shown == [f"{expected[key]:.4f}" for key in ("precision", "recall", "f1-score")] + [
            str(int(expected["support"]))
        ]
    assert f"{report['macro avg']['f1-score']:.4f}" in done.stdout


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("name", ["digits", "diabetes", "setosa"])
def test_metrics_are_those_of_metrics_json(name: str, split: Any, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(name)
    figures = evaluate_run(RunDirectory(run), split=split)
    assert figures["metrics"] == pytest.approx(metrics_of(run, split), rel=1e-6)


def test_a_regression_has_the_errors_of_its_predictions(diabetes: Path) -> None:
    import keras

    test = data.load("diabetes", standardize=False).test
    model = keras.saving.load_model(diabetes / "model.h5", compile=False)
    difference = model.predict(test.x, verbose=0)[:, 0].astype(np.float64) - test.y
    figures = evaluate_run(RunDirectory(diabetes))
    assert figures["mse"] == pytest.approx(np.mean(difference**2), rel=1e-6)
    assert figures["mae"] == pytest.approx(np.mean(np.abs(difference)), rel=1e-6)
    assert figures["r2"] == pytest.approx(1 - np.mean(difference**2) / np.var(test.y), rel=1e-5)
    assert figures["target"] == "disease progression after one year"


def test_a_perceptron_is_judged_by_the_sign_of_its_score(setosa: Path) -> None:
    figures = evaluate_run(RunDirectory(setosa), split="train")
    # The metric of the model is the same accuracy, by Keras.
    assert figures["accuracy"] == pytest.approx(metrics_of(setosa, "train")["binary_accuracy"], rel=1e-6)
    num_setosa = int(np.sum(data.load("iris").train.y == 0))
    assert [row["support"] for row in figures["classes"]] == [84 - num_setosa, num_setosa]
    # A line that parts the classes ranks them, too.
    assert figures["roc_auc"] == figures["accuracy"] == 1


def test_a_run_that_was_moved_is_evaluated_where_it_is(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "moved")
    assert evaluate_run(RunDirectory(tmp_path / "moved"))["run"] == str(tmp_path / "moved")


# Errors


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "the following arguments are required: RUN"),
        (["none"], "is not a run: expected"),
        (["small", "--split", "tests"], "invalid choice: 'tests'"),
        (["small", "--json", "none/figures.json"], "which is no directory"),
        (["small"], "does not fit the data: expected samples of shape (3,), received (10,)"),
    ],
)
def test_bad_input_is_one_line(
    job: Any, finished: Path, arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.parent)
    done = job("evaluate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert expected in done.stderr


def test_an_unfinished_run_is_refused(job: Any, finished: Path) -> None:
    (finished / "metrics.json").unlink()
    done = job("evaluate", finished)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "is not finished" in done.stderr


def test_an_unknown_workload_is_refused(finished: Path) -> None:
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace("diabetes", "digit"))
    with pytest.raises(ConfigError, match="did you mean digits"):
        evaluate_run(RunDirectory(finished))


@pytest.mark.slow
def test_a_run_with_a_scaled_loss_keeps_the_state_of_its_optimizer(
    half: Path, recwarn: pytest.WarningsRecorder
) -> None:
    import annlib

    optimizer = annlib.load(half).optimizer
    # Two of the scale, two of Adam's steps and rate, two of each of six weights, two of its own steps and rate.
    assert len(optimizer.variables) == 18
    # Of five steps an epoch, those whose scaled gradients overflow are left out.
    assert 5 < optimizer.inner_optimizer.iterations.numpy() <= 10
    assert not [warning for warning in recwarn if "Skipping" in str(warning.message)]
    evaluate_run(RunDirectory(half))


def test_a_missing_signature_is_refused(finished: Path) -> None:
    (finished / "signature.json").unlink()
    with pytest.raises(StorageError, match=r"signature.json cannot be read"):
        evaluate_run(RunDirectory(finished))


def test_a_truncated_model_is_refused(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "run")
    model = tmp_path / "run/model.keras"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model.keras is not a model or is damaged"):
        evaluate_run(RunDirectory(tmp_path / "run"))


def test_help_and_bad_input_import_no_tensorflow(imports: Callable[..., set[str]], finished: Path) -> None:
    for arguments in (["--help"], [finished]):
        imported = imports("evaluate", *arguments)
        assert "annlib" in imported
        assert not imported & {"tensorflow", "keras", "ray"}
