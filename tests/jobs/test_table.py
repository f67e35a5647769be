"""`jobs/train.py table` as a user runs it, from the file to predictions for new rows."""

import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import precision_recall_fscore_support, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import annlib
from annlib.artifacts import RunDirectory
from annlib.errors import CheckpointError
from annlib.evaluation import evaluate_run


def sales(num_rows: int = 240) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "size": generator.normal(70, 20, num_rows),
            "colour": generator.choice(["red", "green", "blue"], num_rows),
            "sold": (pd.Timestamp("2023-01-01") + pd.to_timedelta(generator.integers(0, 700, num_rows), "D")).astype(
                str
            ),
            "new": generator.random(num_rows) < 0.5,
            "same": 1,
        }
    )
    price = 100_000 + 3_000 * found["size"] + 20_000 * (found["colour"] == "red") + generator.normal(0, 5_000, num_rows)
    found["price"] = price.round(2)
    found["cheap"] = np.where(price < price.median(), "yes", "no")
    found["fold"] = np.resize(["train", "train", "train", "validation", "test"], num_rows)
    found.loc[::9, "size"] = np.nan
    found.loc[::10, "colour"] = None
    return found


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table")
    sales().to_csv(path / "sales.csv", index=False)
    return path


def train(job: Any, directory: Path, name: str, *flags: str) -> Path:
    files = ["--data", directory / "sales.csv", "--storage", directory / "runs", "--name", name]
    done = job("train", "table", *files, "--split", "fold", "--global-batch-size", "8", *flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (directory / f"{name}.out").write_text(done.stdout)
    return directory / "runs" / name


@pytest.fixture(scope="module")
def prices(job: Any, directory: Path) -> Path:
    return train(job, directory, "prices", "--target", "price", "--drop", "cheap", "--epochs", "20")


def test_task_and_left_out_columns_are_shown(prices: Path, directory: Path) -> None:
    out = (directory / "prices.out").read_text().splitlines()
    assert out[0] == "regression of price: 240 different numbers"
    assert out[1] == "left out 'same': always 1 in 144 training rows"
    page = (prices / "report.html").read_text()
    for line in out[:2]:
        assert line.replace("'", "&#x27;") in page or line in page
    assert {path.name for path in (prices / "pictures").iterdir()} >= {"predicted_against_true.png", "residuals.png"}
    assert list((prices / "tensorboard").rglob("events.out.tfevents.*"))


def test_predictions_are_in_the_unit_of_the_target_and_agree_with_the_training(
    job: Any, prices: Path, directory: Path
) -> None:
    done = job("predict", prices, directory / "sales.csv", "-o", directory / "out.csv")
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(directory / "out.csv")
    test = rows[rows["fold"] == "test"]
    metrics = json.loads((prices / "metrics.json").read_text())["test"]
    error = test["predicted_price"] - test["price"]
    assert np.sqrt((error**2).mean()) == pytest.approx(metrics["root_mean_squared_error"], rel=1e-5)
    assert error.abs().mean() == pytest.approx(metrics["mae"], rel=1e-5)
    assert r2_score(test["price"], test["predicted_price"]) > 0.8
    np.testing.assert_array_equal(
        np.load(prices / "test_predictions.npy")[:, 0], test["predicted_price"].to_numpy(np.float32)
    )


def test_evaluate_gives_the_figures_of_the_training(job: Any, prices: Path, directory: Path) -> None:
    done = job("evaluate", prices, "--json", directory / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((directory / "figures.json").read_text())
    assert figures["metrics"] == json.loads((prices / "metrics.json").read_text())["test"]
    assert figures["target"] == "price"


def test_a_table_that_was_moved_is_evaluated_where_it_is(prices: Path, directory: Path) -> None:
    moved = directory / "moved.csv"
    sales().to_csv(moved, index=False)
    figures = evaluate_run(RunDirectory(prices), table=str(moved))
    assert figures["metrics"] == json.loads((prices / "metrics.json").read_text())["test"]
    changed = directory / "changed.csv"
    sales().head(100).to_csv(changed, index=False)
    with pytest.raises(CheckpointError, match="has changed since the training"):
        evaluate_run(RunDirectory(prices), table=str(changed))


def test_new_rows_with_unseen_and_missing_values(job: Any, prices: Path, directory: Path) -> None:
    text = "colour,new,sold,size\nviolet,true,2030-01-01,55\n,,,\nNA,False,2023-05-05T12:00:00,1e2\nred,TRUE,,\n"
    (directory / "new.csv").write_text(text)
    done = job("predict", prices, directory / "new.csv", "-o", directory / "new_out.parquet")
    assert done.returncode == 0, done.stderr
    found = pd.read_parquet(directory / "new_out.parquet")
    assert found["colour"].tolist() == ["violet", "", "NA", "red"]
    assert np.isfinite(found["predicted_price"]).all()
    model = annlib.load(prices)
    times = [np.datetime64("2030-01-01"), None, np.datetime64("2023-05-05T12:00"), None]
    inputs = {
        "size": np.array([55, np.nan, 100, np.nan]),
        "colour": np.array(["violet", "", "", "red"], dtype=object),
        "sold": np.array(
            [np.iinfo("int64").min if t is None else t.astype("datetime64[s]").astype(int) for t in times]
        ),
        "new": np.array([1, np.nan, 0, 1]),
    }
    np.testing.assert_allclose(model.predict(inputs, verbose=0)[:, 0], found["predicted_price"], rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("colour,new,sold\nred,true,2023-01-01\n", ["lacks the columns size"]),
        ("size,colour,new,sold\nbig,red,true,2023-01-01\n", ["column 'size'", "'big' in 1 of 1 rows"]),
        ("size,colour,new,sold\n1,red,maybe,2023-01-01\n", ["column 'new'", "true or false"]),
        ("size,colour,new,sold\n1,red,true,yesterday\n", ["column 'sold'", "ISO 8601"]),
        ("size,colour,new,sold\ninf,red,true,2023-01-01\n", ["column 'size'", "finite"]),
    ],
)
def test_rows_of_another_kind_are_one_line(
    job: Any, prices: Path, tmp_path: Path, content: str, parts: list[str]
) -> None:
    (tmp_path / "bad.csv").write_text(content)
    done = job("predict", prices, tmp_path / "bad.csv", "-o", tmp_path / "out.csv")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    for part in parts:
        assert part in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_the_same_name_goes_on_and_other_hyperparameters_do_not(job: Any, directory: Path) -> None:
    flags = ["--target", "cheap", "--drop", "price", "--model", "wide-deep", "--hidden", "12,10", "--weight", "same"]
    run = train(job, directory, "again", *flags, "--epochs", "2")
    train(job, directory, "again", *flags, "--epochs", "3")
    assert "resuming after epoch 2" in (directory / "again.out").read_text()
    assert len((run / "history.csv").read_text().splitlines()) == 4
    files = ["--data", directory / "sales.csv", "--storage", directory / "runs", "--name", "again", "--split", "fold"]
    done = job("train", "table", *files, *flags, "--hidden", "9", "--global-batch-size", "8", "--epochs", "4")
    assert done.returncode == 2
    assert "hidden" in done.stderr
    command = re.search(r"python jobs/train\.py table.*?</code>", (run / "report.html").read_text(), re.DOTALL)
    assert command is not None
    assert "--hidden 12,10" in re.sub("<.*?>", "", command.group())


def test_a_file_that_changed_is_not_evaluated(job: Any, prices: Path, directory: Path) -> None:
    config = prices / "config.yaml"
    before = config.read_text()
    sales(250).to_csv(directory / "changed.csv", index=False)
    try:
        config.write_text(before.replace("sales.csv", "changed.csv"))
        done = job("evaluate", prices)
    finally:
        config.write_text(before)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "has changed since the training" in done.stderr


@pytest.mark.slow
def test_labels_have_figures_and_predictions_of_their_own(job: Any, directory: Path) -> None:
    frame = sales()
    frame["is red"] = (frame["colour"] == "red").astype(int)
    frame["large"] = frame["size"] > 70
    frame.to_csv(directory / "labels.csv", index=False)
    run = directory / "runs/labels"
    flags = ["--target", "is red,large", "--drop", "price,cheap,same", "--split", "fold", "--epochs", "5"]
    done = job(
        "train", "table", "--data", directory / "labels.csv", *flags, "--storage", run.parent, "--name", run.name
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (run / "pictures").glob("confusion*")} == {
        "confusion_matrix_1.png",
        "confusion_matrix_2.png",
    }
    done = job("predict", run, directory / "labels.csv", "-o", directory / "labels_out.parquet")
    assert done.returncode == 0, done.stderr
    rows = pd.read_parquet(directory / "labels_out.parquet").query("fold == 'test'")
    found = rows[["predicted_is_red", "predicted_large"]].to_numpy()
    np.testing.assert_array_equal(found, rows[["probability_is_red", "probability_large"]].to_numpy() >= 0.5)
    done = job("evaluate", run, "--json", directory / "labels.json")
    assert done.returncode == 0, done.stderr
    truth = np.column_stack([rows["is red"].astype(int), rows["large"] == "True"]).astype(int)
    expected = precision_recall_fscore_support(truth, found, zero_division=0)
    figures = json.loads((directory / "labels.json").read_text())
    assert [row["name"] for row in figures["classes"]] == ["is red", "large"]
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert [row[key] for row in figures["classes"]] == pytest.approx(values)


def test_a_classification_is_as_good_as_scikit_learns(job: Any, tmp_path: Path) -> None:
    bunch = load_breast_cancer(as_frame=True)
    frame = bunch.data.assign(kind=np.where(bunch.target, "benign", "malignant"))
    # A category as well, which tells a little.
    frame["site"] = np.where(frame["mean radius"] > 15, "a", "b")
    frame["fold"] = np.resize(["train", "test", "train", "validation"], len(frame))
    frame.to_parquet(tmp_path / "cancer.parquet")
    flags = ["--target", "kind", "--split", "fold", "--storage", tmp_path, "--name", "cancer"]
    done = job("train", "table", "--data", tmp_path / "cancer.parquet", *flags)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "cancer/metrics.json").read_text())["test"]["binary_accuracy"]
    x, rows = frame.drop(columns=["kind", "fold"]), {name: frame["fold"] == name for name in ("train", "test")}
    prepare = make_column_transformer((OneHotEncoder(), ["site"]), remainder=StandardScaler())
    reference = make_pipeline(prepare, LogisticRegression()).fit(x[rows["train"]], frame["kind"][rows["train"]])
    expected = reference.score(x[rows["test"]], frame["kind"][rows["test"]])
    # Two standard errors of 142 rows.
    assert found > expected - 2 * np.sqrt(expected * (1 - expected) / rows["test"].sum())
    assert isinstance(annlib.load(tmp_path / "cancer"), keras.Model)


@pytest.mark.slow
def test_a_streamed_table_comes_to_the_same_and_is_evaluated(
    job: Any, prices: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
    flags = ["--target", "price", "--drop", "cheap", "--epochs", "20"]
    run = train(job, directory, "streamed", *flags, "--streaming")
    out = (directory / "streamed.out").read_text().splitlines()
    assert re.match(r"streamed: 240 rows, .* which may be removed after the run; pictures are of a sample$", out[2])
    expected, received = (json.loads((path / "metrics.json").read_text()) for path in (prices, run))
    assert received["train"]["loss"] == pytest.approx(expected["train"]["loss"], rel=0.2)
    done = job("evaluate", run, "--json", directory / "streamed.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((directory / "streamed.json").read_text())["metrics"] == received["test"]
    done = job("predict", run, directory / "sales.csv", "-o", directory / "streamed.csv")
    assert done.returncode == 0, done.stderr
    done = job(
        *("train", "table", "--data", directory / "sales.csv", "--storage", directory / "runs", "--name", "alone"),
        *(*flags, "--streaming", "--num-workers", "2", "--sync-every", "4"),
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "expected 1 for a table that is streamed, received 4" in done.stderr
    assert not (directory / "runs/alone").exists()


def test_the_flags_are_the_tables_alone(job: Any, directory: Path) -> None:
    done = job("train", "digits", "--target", "price")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "--target" in done.stderr
    assert "--target TARGET" in job("train", "table", "--help").stdout
    assert "--target" not in job("train", "digits", "--help").stdout
    done = job("train", "table", "--data", directory / "sales.csv")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Give --target" in done.stderr


def test_help_imports_nothing_that_is_slow(imports: Any) -> None:
    assert not imports("train", "table", "--help") & {"tensorflow", "keras", "ray", "pandas", "sklearn", "pyarrow"}
