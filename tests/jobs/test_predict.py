"""`jobs/predict.py` as a user runs it, against Keras' own predictions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from annlib import data
from annlib.artifacts import RunDirectory
from annlib.prediction import predict_file


def test_a_table_comes_back_with_predictions(job: Any, diabetes: Path, tmp_path: Path) -> None:
    import keras

    test = data.load("diabetes", standardize=False)
    assert test.feature_names is not None
    table = pd.DataFrame(test.test.x, columns=list(test.feature_names))[list(test.feature_names[::-1])]
    table.insert(3, "patient", [f"{i:04d}" for i in range(len(table))])
    table.to_csv(tmp_path / "in.csv", index=False)
    done = job("predict", diabetes, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("predicted 111 samples in ")
    assert done.stdout.splitlines()[1:] == [str(tmp_path / "out.csv")]
    found = pd.read_csv(tmp_path / "out.csv", dtype={"patient": str})
    predicted = found.pop("predicted_disease_progression_after_one_year")
    model = keras.saving.load_model(diabetes / "model.h5", compile=False)
    np.testing.assert_allclose(predicted, model.predict(test.test.x, verbose=0)[:, 0], rtol=1e-5)
    pd.testing.assert_frame_equal(found, table.astype({"patient": str}), check_dtype=False)
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


def test_images_get_class_name_and_probability(digits: Path, tmp_path: Path) -> None:
    import keras

    x = data.load("digits").test.x
    np.save(tmp_path / "in.npy", x)
    assert predict_file(RunDirectory(digits), tmp_path / "in.npy", tmp_path / "out.parquet") == 450
    probabilities = keras.saving.load_model(digits / "model.keras").predict(x, verbose=0)
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["class"].tolist() == probabilities.argmax(axis=1).tolist()
    assert table["class_name"].tolist() == [str(label) for label in probabilities.argmax(axis=1)]
    np.testing.assert_allclose(table["probability"], probabilities.max(axis=1), rtol=1e-5)


def test_a_perceptron_gives_its_score_and_no_probability(setosa: Path, tmp_path: Path) -> None:
    import keras

    import annlib.models.losses  # noqa: F401

    iris = data.load("iris", standardize=False)
    assert iris.feature_names is not None
    pd.DataFrame(iris.test.x, columns=list(iris.feature_names)).to_csv(tmp_path / "in.csv", index=False)
    predict_file(RunDirectory(setosa), tmp_path / "in.csv", tmp_path / "out.csv")
    table = pd.read_csv(tmp_path / "out.csv")
    scores = keras.saving.load_model(setosa / "model.keras").predict(iris.test.x[:, 2:], verbose=0)[:, 0]
    np.testing.assert_allclose(table["score"], scores, rtol=1e-5, atol=1e-6)
    assert table["class"].tolist() == (scores >= 0).astype(int).tolist()
    assert set(table["class_name"]) == {"setosa", "not setosa"}
    assert table["probability"].isna().all()


# Errors: one line, exit code 2, nothing written


SOUND = "a,b,c\n1,2,3\n"


@pytest.mark.parametrize(
    ("text", "arguments", "expected"),
    [
        (SOUND, [], "the following arguments are required: RUN, INPUT, -o/--output"),
        (SOUND, ["small", "in.csv"], "the following arguments are required: -o/--output"),
        (SOUND, ["none", "in.csv", "-o", "out.csv"], "none is not a run"),
        (SOUND, ["small", "none.csv", "-o", "out.csv"], "none.csv does not exist"),
        (SOUND, ["small", "in.csv", "-o", "out.txt"], "out.txt has an unknown ending"),
        (SOUND, ["small", "in.csv", "-o", "none/out.csv"], "which is no directory"),
        (SOUND, ["small", "in.csv", "-o", "in.csv"], "in.csv exists: expected a new file"),
        (SOUND, ["small", "small", "-o", "out.csv"], "holds no images"),
        ("", ["small", "in.csv", "-o", "out.csv"], "in.csv is empty"),
        ("a,b\n1,2\n", ["small", "in.csv", "-o", "out.csv"], "lacks the columns c"),
        ("a,b,c\n1,2,3\n4,5\n", ["small", "in.csv", "-o", "out.csv"], "row 2 is too short: expected 3 values"),
        ("a,b,c\n1,x,3\n", ["small", "in.csv", "-o", "out.csv"], "column 'b', row 1"),
        ("a,b,c\n1,,3\n", ["small", "in.csv", "-o", "out.csv"], "received no value"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    job: Any, finished: Path, text: str, arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = finished.parent
    (directory / "in.csv").write_text(text)
    monkeypatch.chdir(directory)
    done = job("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert expected in done.stderr
    assert (directory / "in.csv").read_text() == text
    assert {path.name for path in directory.iterdir()} == {"in.csv", "small"}


def test_an_unfinished_run_is_refused(job: Any, finished: Path, tmp_path: Path) -> None:
    (finished / "metrics.json").unlink()
    (tmp_path / "in.csv").write_text(SOUND)
    done = job("predict", finished, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "is not finished" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_a_damaged_model_is_one_line_and_writes_nothing(job: Any, finished: Path, tmp_path: Path) -> None:
    (finished / "model.keras").write_bytes(b"no model")
    (tmp_path / "in.csv").write_text(SOUND)
    done = job("predict", finished, tmp_path / "in.csv", "-o", tmp_path / "out.csv")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "is not a model or is damaged" in done.stderr
    assert not (tmp_path / "out.csv").exists()


def test_help_and_bad_input_import_no_tensorflow(imports: Callable[..., set[str]], finished: Path) -> None:
    help_imports = imports("predict", "--help")
    assert "annlib" in help_imports
    assert not help_imports & {"tensorflow", "keras", "ray", "pandas", "sklearn", "matplotlib"}
    (finished / "in.csv").write_text("a,b,c\n1,x,3\n")
    imported = imports("predict", finished, finished / "in.csv", "-o", finished / "out.csv")
    assert "pandas" in imported
    assert not imported & {"tensorflow", "keras", "ray"}


# Many files


def test_a_directory_comes_back_as_one_and_a_second_start_does_nothing(
    job: Any, diabetes: Path, tmp_path: Path
) -> None:
    import keras

    test = data.load("diabetes", standardize=False)
    assert test.feature_names is not None
    table = pd.DataFrame(test.test.x, columns=list(test.feature_names))
    (tmp_path / "new/half=1").mkdir(parents=True)
    table[:50].to_parquet(tmp_path / "new/half=1/a.parquet")
    table[50:].to_csv(tmp_path / "new/b.csv", index=False)
    (tmp_path / "new/c.csv").write_text("age\n1\n")
    done = job("predict", diabetes, tmp_path / "new/**/[ab].*", "-o", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "2 files, 0 of them done before, 0 changed since"
    assert any(line.startswith("predicted 111 rows of 2 files in ") for line in lines)
    assert "rows/s without start-up" in lines[-2]
    assert lines[-1] == str(tmp_path / "out")
    names = ("half=1/a", "b")
    found = [pd.read_parquet(tmp_path / f"out/{name}.parquet", partitioning=None) for name in names]
    predicted = pd.concat(found)["predicted_disease_progression_after_one_year"]
    model = keras.saving.load_model(diabetes / "model.h5", compile=False)
    np.testing.assert_allclose(predicted, model.predict(test.test.x, verbose=0)[:, 0], rtol=1e-5)
    done = job("predict", diabetes, tmp_path / "new", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout.splitlines()[0] == "3 files, 2 of them done before, 0 changed since"
    assert len(done.stderr.splitlines()) == 2
    assert "c.csv lacks the columns sex" in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1] == "error: 1 of 3 files were left out"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["small", "*.csv", "-o", "out", "--num-workers", "x"], "expected a whole number of 0 or more, received 'x'"),
        (["small", "*.csv", "-o", "out", "--max-bad-rows", "-1"], "--max-bad-rows: expected"),
        (["small", "*.csv", "-o", "out.parquet"], "out.parquet is a file: expected a directory"),
        (["small", "*.csv", "-o", "in.csv"], "in.csv is a file: expected a directory"),
        (["small", "*.csv", "-o", "."], "is in the directory of the output"),
        (["small", "*.txt", "-o", "out"], "matches no files: expected .csv, .parquet, .npy files"),
        (["small", "http://x/*.csv", "-o", "out"], "the input has the scheme http://"),
        (["small", "*.csv", "-o", "http://x"], "-o has the scheme http://"),
        (["small", "in.csv", "-o", "out.csv", "--num-workers", "2"], "--num-workers is for several files"),
        (["small", "in.csv", "-o", "out.csv", "--max-bad-rows", "2"], "--max-bad-rows is for several files"),
        (["none", "*.csv", "-o", "out"], "none is not a run"),
        (["small", "*.csv", "-o", "out"], "holds no model"),
    ],
)
def test_bad_arguments_for_many_files_are_one_line(
    job: Any, finished: Path, arguments: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = finished.parent
    (directory / "in.csv").write_text(SOUND)
    monkeypatch.chdir(directory)
    done = job("predict", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert expected in done.stderr
    assert {path.name for path in directory.iterdir()} == {"in.csv", "small"}
