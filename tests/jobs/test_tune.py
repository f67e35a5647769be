"""`jobs/tune.py`: bad input is one line and exit code 2, and nothing is left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ([], "expected a workload, received none"),
        (["digit"], "did you mean digits?"),
        (["table"], "data is missing"),
        (["table", "--data", "no-such-file.csv", "--target", "y"], "no-such-file.csv"),
        (["digits", "--target", "y"], "unrecognized arguments: --target y"),
        (["no-such-file.py:w"], "no-such-file.py does not exist"),
        (["digits", "--num-trials", "0"], "expected a whole number of 1 or more, received '0'"),
        (["digits", "--concurrency", "-1"], "expected a whole number of 1 or more"),
        (["digits", "--trials-per-process", "0"], "expected a whole number of 1 or more"),
        (["digits", "--metric", "accuracy"], "metric is unknown"),
        (["digits", "--epochs", "0"], "epochs"),
        (["digits", "--name", "a/b"], "name"),
        (["digits", "--space", "no-such-file"], "--space no-such-file cannot be read"),
        (["digits", "--num-workers", "2"], "unrecognized arguments: --num-workers"),
        (["digits", "--storage", "ftp://x/y"], "ftp://"),
    ],
)
def test_bad_input_is_one_line(job: Any, tmp_path: Path, arguments: list[str], part: str) -> None:
    storage = [] if "--storage" in arguments else ["--storage", tmp_path / "runs"]
    done = job("tune", *arguments, *storage)
    assert (done.returncode, done.stdout) == (2, "")
    assert part in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_number_of_workers_of_a_clusters_runs_is_not_that_of_a_trial(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANNLIB_NUM_WORKERS", "1:4")
    done = job("tune", "digits", "--space", "no-such-file")
    assert done.returncode == 2
    assert "--space no-such-file cannot be read" in done.stderr


def test_a_space_is_checked_before_anything_starts(job: Any, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("learning_rate: {log_uniform: [1e-1, 1e-4]}\n")
    done = job("tune", "digits", "--space", space, "--storage", tmp_path / "runs")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "learning_rate of --space" in done.stderr
    assert "the smaller one first" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_name_of_a_run_is_refused_and_the_run_stays(job: Any, finished: Path) -> None:
    before = sorted(path.name for path in finished.iterdir())
    done = job("tune", "diabetes", "--storage", finished.parent, "--name", finished.name)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is a run, no search" in done.stderr
    assert sorted(path.name for path in finished.iterdir()) == before


def test_help_imports_nothing_heavy(imports: Callable[..., set[str]]) -> None:
    assert not imports("tune", "--help") & {"tensorflow", "keras", "ray", "pandas", "sklearn", "scipy", "matplotlib"}


@pytest.mark.parametrize(("file", "kind"), [("search.yaml", "a search"), ("trial.json", "a trial of a search")])
def test_training_under_the_name_of_a_search_or_a_trial_is_refused(
    job: Any, tmp_path: Path, file: str, kind: str
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / file).write_text("{}")
    done = job("train", "digits", "--storage", tmp_path, "--name", "s")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"is {kind}, no run" in done.stderr
    assert [path.name for path in (tmp_path / "s").iterdir()] == [file]


@pytest.mark.parametrize(
    ("workload", "flags", "part"),
    [
        ("digits", ["--hidden", "30,x"], "hidden"),
        ("digits", ["--activation", "rleu"], "'relu'"),
        ("digits", ["--optimizer", "sdg"], "'sgd'"),
        ("iris-perceptron", ["--hidden", "30"], "its model is no MLP"),
        ("wide-deep-housing", ["--optimizer", "adam"], "its model is no MLP"),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(
    job: Any, tmp_path: Path, workload: str, flags: list[str], part: str
) -> None:
    done = job("train", workload, *flags, "--storage", tmp_path / "runs")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert part in done.stderr
    assert not (tmp_path / "runs").exists()
