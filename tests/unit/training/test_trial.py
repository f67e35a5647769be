"""One trial in this process: its files, its scores, and what ends it."""

import dataclasses
import gc
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig, load_config
from annlib.errors import ConfigError, DataError, StorageError
from annlib.training.checkpoint import Progress
from annlib.training.own_code import Origin
from annlib.training.trial import TrialRecord, _Asking, read_record, run_trial
from annlib.training.workload import Workload
from annlib.workloads import find


def configure(tmp_path: Path, **values: Any) -> RunConfig:
    given = {
        "workload": "digits",
        "epochs": 4,
        "global_batch_size": 128,
        "hidden": "16",
        "monitor": "val_sparse_categorical_accuracy",
        "storage": tmp_path,
        "name": "trial-001",
        **values,
    }
    return load_config(given, defaults=find("digits").defaults, environment={})


def run(
    config: RunConfig,
    go_on: Callable[[TrialRecord], bool] = lambda record: True,
    stop_requested: Callable[[], bool] = lambda: False,
    workload: Workload | None = None,
) -> TrialRecord:
    return run_trial(
        1,
        config,
        workload or find("digits"),
        hparams={"learning_rate": config.learning_rate},
        rungs=[1, 3],
        go_on=go_on,
        stop_requested=stop_requested,
    )


def test_a_trial_is_a_run_that_never_looks_at_the_test_split(tmp_path: Path) -> None:
    config = configure(tmp_path)
    told: list[TrialRecord] = []
    record = run(config, lambda record: bool(told.append(record)) or True)
    directory = RunDirectory(config.run_path)
    history = directory.read_history()
    metrics = json.loads(directory.metrics.read_text())
    name = "sparse_categorical_accuracy"
    assert (record.state, record.epochs, list(record.scores)) == ("finished", 4, [1, 3, 4])
    assert [len(seen.scores) for seen in told] == [1, 2]
    assert record.scores[1] == pytest.approx(float(history[0][f"val_{name}"]))
    assert record.score == metrics["validation"][name]
    assert "test" not in metrics
    assert not directory.predictions.exists()
    assert any((directory.tensorboard / "hparams").iterdir())
    model = keras.saving.load_model(directory.model)
    data = find("digits").load(config)
    accuracy = (model.predict(data.validation.x, verbose=0).argmax(axis=1) == data.validation.y).mean()
    assert record.score == pytest.approx(accuracy)


def test_a_trial_that_ended_tells_its_scores_again_and_trains_nothing(tmp_path: Path) -> None:
    config = configure(tmp_path)
    first = run(config)

    def fail(*arguments: Any) -> Any:
        raise AssertionError

    told: list[TrialRecord] = []
    again = run(
        config,
        # Another order of the scores must not change what was decided.
        lambda record: bool(told.append(record)),
        workload=dataclasses.replace(find("digits"), load_data=fail),
    )
    assert again == first
    assert [(record.epochs, record.score) for record in told] == [(1, first.scores[1]), (3, first.scores[3])]
    assert {record.state for record in told} == {"replayed"}


def test_a_trial_that_is_not_worth_it_stops_at_the_rung_and_keeps_its_model(tmp_path: Path) -> None:
    config = configure(tmp_path)
    record = run(config, lambda record: record.epochs < 3)
    assert (record.state, record.epochs) == ("stopped", 3)
    assert len(RunDirectory(config.run_path).read_history()) == 3
    assert RunDirectory(config.run_path).model.exists()


@pytest.mark.slow
def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    seen: list[int] = []

    def stop() -> bool:
        seen.append(1)
        return len(seen) == 3

    interrupted = run(configure(tmp_path), stop_requested=stop)
    assert interrupted.state == "interrupted"
    assert 0 < interrupted.epochs < 4
    assert read_record(RunDirectory(tmp_path / "trial-001")) is None
    told: list[int] = []
    record = run(configure(tmp_path), lambda record: bool(told.append(record.epochs)) or True)
    undisturbed = run(configure(tmp_path / "other"))
    assert told == [1, 3]
    assert (record.state, dict(record.scores)) == ("finished", dict(undisturbed.scores))


def progress(*epochs: int, stopped: bool = False) -> Progress:
    history = [{"epoch": epoch, "val_loss": 1 / epoch} for epoch in epochs]
    return Progress(epoch=epochs[-1], history=history, identity={}, stopped=stopped)


@pytest.mark.parametrize(
    ("before", "states", "is_stopped"),
    [
        (progress(1, 2), ["replayed"], False),
        (progress(1, 2, 3), ["replayed", "running"], True),
        (progress(1, 2, 3, 4), ["replayed", "replayed"], False),
        # The search had stopped it, early stopping had.
        (progress(1, 2, 3, stopped=True), ["replayed", "replayed"], True),
        (progress(1, 2, stopped=True), ["replayed"], False),
    ],
)
def test_a_trial_that_goes_on_asks_only_where_it_was_not_decided(
    tmp_path: Path, before: Progress, states: list[str], is_stopped: bool
) -> None:
    told: list[str] = []
    config = configure(tmp_path, monitor="val_loss")
    asking = _Asking(1, config, [1, 3], lambda record: bool(told.append(record.state)), lambda: False)
    asking.see_again(before)
    assert (told, asking.is_stopped) == (states, is_stopped)


def test_a_loss_that_is_not_finite_is_recorded_and_no_error(tmp_path: Path) -> None:
    record = run(configure(tmp_path, learning_rate=1e30))
    assert (record.state, record.score) == ("failed", None)
    assert "loss became" in record.reason
    assert "\n" not in record.reason
    assert read_record(RunDirectory(tmp_path / "trial-001")) == record


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_a_failure_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    metrics = {"loss": 0.5, "sparse_categorical_accuracy": value}
    result = {"interrupted": False, "epochs": 4, "metrics": {"train": metrics, "validation": metrics}}
    monkeypatch.setattr("annlib.training.worker.train_worker", lambda *arguments, **options: result)
    monkeypatch.setattr("annlib.training.trial.final_metrics", lambda config, result: {})
    record = run(configure(tmp_path))
    assert (record.state, record.score) == ("failed", None)
    assert record.reason == f"val_sparse_categorical_accuracy became {value}."


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_record_of_before_with_a_score_that_is_not_finite_has_none(value: float) -> None:
    assert TrialRecord(number=1, state="finished", scores={1: 0.5, 3: value}).score is None


def test_a_bug_is_recorded_with_its_kind(tmp_path: Path) -> None:
    def fail(*arguments: Any) -> Any:
        raise MemoryError("no room")

    record = run(configure(tmp_path), workload=dataclasses.replace(find("digits"), build_model=fail))
    assert (record.state, record.reason) == ("failed", "MemoryError('no room')")


def rows(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collects what is written to TensorBoard's table."""
    written: list[dict[str, Any]] = []
    monkeypatch.setattr("annlib.training.trial.write_hparams", lambda directory, **row: written.append(row))
    return written


@pytest.mark.parametrize(("rate", "has_failed"), [(0.01, False), (1e30, True)])
def test_a_trial_is_a_row_of_its_search_also_where_it_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: float, has_failed: bool
) -> None:
    written = rows(monkeypatch)
    # As the trials of a search are kept, whose names are the same in each search.
    run(configure(tmp_path / "prices", learning_rate=rate, epochs=1))
    assert [(row["run_name"], row["has_failed"]) for row in written] == [("prices/trial-001", has_failed)]
    assert written[0]["hparams"] == {"learning_rate": rate}


@pytest.mark.parametrize("error", [DataError("digits.csv does not exist."), OSError(28, "No space left on device")])
@pytest.mark.parametrize("is_own", [False, True])
def test_a_file_that_is_missing_on_one_node_is_not_the_trials_failure(
    tmp_path: Path, error: Exception, is_own: bool
) -> None:
    def fail(*arguments: Any) -> Any:
        raise error

    origin = Origin(reference="own.py:w", directory=str(tmp_path)) if is_own else None
    workload = dataclasses.replace(find("digits"), load_data=fail, origin=origin)
    with pytest.raises((DataError, OSError, ConfigError)):
        run(configure(tmp_path), workload=workload)
    assert read_record(RunDirectory(tmp_path / "trial-001")) is None


def test_a_record_keeps_its_numbers() -> None:
    record = TrialRecord(number=3, state="failed", scores={1: math.inf, 9: 0.5}, epochs=9, seconds=1.5, reason="x")
    assert TrialRecord.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"number": 1}', '{"number": 1, "state": "x", "scores": {"a": 1}}']
)
def test_a_damaged_record_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "trial.json").write_text(content)
    with pytest.raises(StorageError, match=r"trial\.json cannot be read"):
        read_record(RunDirectory(tmp_path))


@pytest.mark.slow
def test_trials_in_one_process_leave_no_models_and_no_names_behind(tmp_path: Path) -> None:
    def num_models() -> int:
        gc.collect()
        return sum(isinstance(thing, keras.Model) for thing in gc.get_objects())

    counts = []
    for number in range(3):
        assert run(configure(tmp_path, name=f"trial-{number}", epochs=1)).state == "finished"
        counts.append(num_models())
    assert counts[1:] == counts[:2]
    assert keras.layers.Dense(1).name == "dense"
