import errno
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from rich.console import Console

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig, load_config
from annlib.data import Dataset
from annlib.errors import ConfigError, StorageError
from annlib.run import _with_free_name, train
from annlib.training.own_code import Origin
from annlib.training.workload import Workload
from annlib.workloads import find

DEFAULTS = find("digits").defaults


def config(storage: Path, **values: object) -> RunConfig:
    return load_config({"workload": "digits", "storage": storage, **values}, defaults=DEFAULTS, environment={})


def test_runs_that_begin_in_the_same_second_get_directories_of_their_own(tmp_path: Path) -> None:
    first = config(tmp_path)
    found = first, RunDirectory(first.run_path)
    for number in ("", "-2", "-3"):
        found = _with_free_name(first, RunDirectory(first.run_path))
        assert found[0].name == first.name + number
        assert found[1].path == found[0].run_path
        found[1].path.mkdir()


def test_a_name_that_is_given_stays(tmp_path: Path) -> None:
    given = config(tmp_path, name="mine")
    given.run_path.mkdir()
    assert _with_free_name(given, RunDirectory(given.run_path))[0] == given


def test_files_that_may_not_be_read_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path, name="mine")

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(given.run_path / "checkpoints"))

    monkeypatch.setattr("annlib.training.checkpoint.find_resumable", denied)
    with pytest.raises(StorageError, match=r"failed: .*mine/checkpoints, received Permission denied\. Mend it"):
        train(given, find("digits"), console=Console(file=io.StringIO()))
    assert not list(tmp_path.iterdir())


def test_metrics_of_no_finished_run_are_one_error(tmp_path: Path) -> None:
    given = config(tmp_path, name="mine")
    given.run_path.mkdir()
    (given.run_path / "metrics.json").write_text('{"epochs": 1}')
    with pytest.raises(StorageError, match=r"metrics\.json of .*/mine is damaged: .* none of best, .* Remove it"):
        train(given, find("digits"), console=Console(file=io.StringIO()))
    assert [path.name for path in given.run_path.iterdir()] == ["metrics.json"]


def test_a_run_that_ended_meanwhile_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = config(tmp_path, name="mine")
    create = RunDirectory.create

    def finish(run: RunDirectory) -> None:
        create(run)
        run.metrics.write_text('{"epochs": 1, "stopped_early": false}')

    monkeypatch.setattr(RunDirectory, "create", finish)
    with pytest.raises(StorageError, match="has just been finished by another process"):
        train(given, find("digits"), console=Console(file=io.StringIO()))
    assert not given.run_path.joinpath("history.csv").exists()


def no_model(data: Dataset, config: RunConfig) -> None:
    return None


def raises(data: Dataset, config: RunConfig) -> None:
    raise KeyError("depth")


@pytest.mark.parametrize(
    ("build_model", "reason", "leaves"),
    [
        (no_model, "returned no model: expected a keras.Model, received NoneType", False),
        (lambda data, config: keras.Sequential([keras.layers.Dense(1)]), "that is not compiled", False),
        # What is in the log tells more than a line.
        (raises, "build_model failed: KeyError: 'depth'", True),
    ],
)
def test_a_model_that_is_none_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build_model: Any, reason: str, leaves: bool
) -> None:
    # What is of the whole process.
    monkeypatch.setattr("annlib.run._prepare_devices", lambda config: None)
    x, y = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32), np.arange(40.0)
    own = Workload(
        name="own.py:own",
        load_data=lambda config: Dataset.from_arrays(x, y),
        build_model=build_model,
        origin=Origin(reference="own.py:own", directory=str(tmp_path)),
    )
    for name in ("new", "old"):
        given = config(tmp_path, name=name, hidden=None, activation=None, optimizer=None)
        if name == "old":
            given.run_path.mkdir()
        with pytest.raises(ConfigError, match=reason):
            train(given, own, console=Console(file=io.StringIO()))
        assert given.run_path.exists() is (leaves or name == "old")
