"""What a name may be given for, and what a search shows and leaves in the end."""

import contextlib
import dataclasses
import errno
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from annlib.config import RunConfig, load_config
from annlib.errors import CheckpointError, ConfigError, StorageError, TrainingError
from annlib.training import distributed
from annlib.training.distributed import search as ray_search
from annlib.training.trial import TrialRecord
from annlib.tuning import results
from annlib.tuning.definition import Search, define
from annlib.tuning.search import _check_directory, _configs, _write_search, tune
from annlib.workloads import find


def make(
    storage: Path, workload: str = "digits", *, space: str | None = None, num_trials: int = 4, **values: Any
) -> Search:
    found = find(workload)
    given = {"workload": workload, "name": "s", "storage": storage, **values}
    config = load_config(given, defaults=found.defaults, environment={})
    file = None
    if space is not None:
        file = storage / "space.yaml"
        file.write_text(space)
    return define(config, found, num_trials=num_trials, space_file=file and str(file))


def started(storage: Path, **values: Any) -> Path:
    search = make(storage, **values)
    _write_search(search.config.run_path, search, "fingerprint")
    return search.config.run_path


def test_the_same_search_goes_on_with_more_trials_or_elsewhere(tmp_path: Path) -> None:
    directory = started(tmp_path)
    _check_directory(directory, make(tmp_path, keep=5, checkpoint_every_s=1))


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"seed": 7}, "seed=42: expected the same, received 7"),
        ({"epochs": 3}, "epochs=30: expected the same, received 3"),
        ({"workload": "diabetes"}, "workload=digits: expected the same, received diabetes"),
        ({"space": "optimizer: {choice: [adam]}"}, "started with space="),
    ],
)
def test_another_search_of_that_name_is_refused(tmp_path: Path, values: dict[str, Any], part: str) -> None:
    directory = started(tmp_path)
    with pytest.raises(ConfigError) as caught:
        _check_directory(directory, make(tmp_path, **values))
    assert part in str(caught.value)
    assert "another --name" in str(caught.value)


def test_the_name_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s/config.yaml").write_text("workload: digits\n")
    with pytest.raises(ConfigError, match="s is a run, no search"):
        _check_directory(tmp_path / "s", make(tmp_path))


@pytest.mark.parametrize("content", [b"- 1", b"a: [", b"\xff"])
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    directory = started(tmp_path)
    (directory / "search.yaml").write_bytes(content)
    with pytest.raises(StorageError, match=r"search\.yaml cannot be read"):
        _check_directory(directory, make(tmp_path))


def test_a_storage_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("a file")
    with pytest.raises(StorageError, match="cannot be written"):
        started(tmp_path)


def test_the_first_trial_is_the_workloads_own(tmp_path: Path) -> None:
    search = make(tmp_path)
    configs = _configs(search, Console(file=io.StringIO()))
    assert [config.name for config in configs] == ["trial-000", "trial-001", "trial-002", "trial-003"]
    assert configs[0].location == f"{tmp_path}/s/trial-000"
    assert configs[0].model_dump(exclude={"name", "storage"}) == search.config.model_dump(exclude={"name", "storage"})


def test_brackets_in_a_reason_and_in_the_storage_are_shown_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = tmp_path / "[old]"
    storage.mkdir()
    search = make(storage)
    failed = dataclasses.replace(record(1, None, "failed"), reason="no checkpoint in [/mnt/weights]")
    _, text = searched(monkeypatch, search, record(0, 0.5), failed)
    assert "no checkpoint in [/mnt/weights]" in text
    assert f"--config: {storage}/s/best.yaml\n" in text


def test_a_small_space_has_fewer_trials_and_says_so(tmp_path: Path) -> None:
    output = io.StringIO()
    configs = _configs(make(tmp_path, space="optimizer: {choice: [sgd, adam]}"), Console(file=output))
    assert [config.optimizer for config in configs] == ["sgd", "adam"]
    assert "the space holds 1 other configurations: 2 trials" in output.getvalue()


def record(number: int, score: float | None, state: Any = "finished") -> TrialRecord:
    scores = {} if score is None else {3: score}
    return TrialRecord(number=number, state=state, scores=scores, epochs=3, reason="the loss became nan.")


def by_number(*records: TrialRecord) -> dict[int, TrialRecord]:
    return {each.number: each for each in records}


def test_the_best_was_trained_to_the_end_if_any_was(tmp_path: Path) -> None:
    accuracy, loss = make(tmp_path), make(tmp_path, "diabetes")
    records = by_number(
        record(0, 0.7), record(1, 0.9, "stopped"), record(2, 0.8), record(3, 0.8), record(4, None, "failed")
    )
    assert results.best_of(records, accuracy) == records[2]
    assert results.best_of(records, loss) == records[0]
    assert results.best_of(by_number(record(1, 0.9, "stopped"), record(4, None, "failed")), accuracy) == record(
        1, 0.9, "stopped"
    )
    assert results.best_of(by_number(record(4, None, "failed")), accuracy) is None


def searched(monkeypatch: pytest.MonkeyPatch, search: Search, *records: TrialRecord) -> tuple[int, str]:
    """Searches without Ray, with records as of trials that ended; returns the exit code and what is shown."""
    directory = search.config.run_path
    directory.mkdir(parents=True, exist_ok=True)
    test = {str(each.number): {"loss": 0.5, "sparse_categorical_accuracy": 0.5} for each in records}
    (directory / "results.json").write_text(json.dumps({"test": test}))

    def run_trials(*arguments: Any, on_record: Callable[[TrialRecord], None], **options: Any) -> None:
        for each in records:
            on_record(each)

    monkeypatch.setattr(distributed, "cluster", lambda config, flag: contextlib.nullcontext())
    monkeypatch.setattr(ray_search, "search", run_trials)
    output = io.StringIO()
    return tune(search, console=Console(file=output, width=80)), output.getvalue()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_neither_end_nor_decide_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    search = make(tmp_path, num_trials=9)
    scores = [0.5, value, 0.9, 0.7, 0.1, 0.2, 0.3, value, 0.4]
    _, text = searched(monkeypatch, search, *(record(number, score) for number, score in enumerate(scores)))
    assert "validation: sparse_categorical_accuracy 0.9000 (trial 2)" in text


def test_a_search_does_not_go_on_with_other_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = make(tmp_path, num_trials=1)
    directory = started(tmp_path)
    with pytest.raises(ConfigError, match=r"search\.yaml was made with other data: .* another --name"):
        searched(monkeypatch, search, record(0, 0.5))
    # A search of before did not tell what its data was.
    (directory / "search.yaml").write_text(yaml.safe_dump(search.identity()))
    assert searched(monkeypatch, search, record(0, 0.5))[0] == 0
    fingerprint = yaml.safe_load((directory / "search.yaml").read_text())["data_fingerprint"]
    assert fingerprint == find("digits").load(search.config).fingerprint
    assert searched(monkeypatch, search, record(0, 0.5))[0] == 0


def test_lost_trials_are_no_success_and_their_scores_are_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = make(tmp_path)
    others = [record(1, 0.75), record(2, 0.25)]
    code, text = searched(monkeypatch, search, record(0, 0.5, "lost"), *others, record(3, None, "failed"))
    assert code == 1
    assert "1 of 4 trials were lost" in text
    assert "trial 0 lost after 3 epochs  the loss became nan.  the workload's own" in text
    assert "0.7500 (trial 1); the workload's own configuration gave no result" in text
    # One of which nothing was heard.
    code, text = searched(monkeypatch, search, record(0, 0.5), *others)
    assert (code, "1 of 4 trials were lost" in text) == (1, True)
    assert searched(monkeypatch, search, record(0, 0.5), *others, record(3, None, "failed"))[0] == 0


def finish(search: Search, records: dict[int, TrialRecord], test: dict[str, dict[str, float]]) -> str:
    """Ends a search whose models have been evaluated on the test split by an earlier start."""
    directory = search.config.run_path
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "results.json").write_text(json.dumps({"test": test}))
    output = io.StringIO()
    configs = _configs(search, Console(file=io.StringIO()))
    results.finish(search, configs, records, directory, Console(file=output, width=80))
    return output.getvalue()


def test_what_a_search_leaves(tmp_path: Path) -> None:
    search = make(tmp_path)
    test = {"0": {"sparse_categorical_accuracy": 0.75}, "2": {"sparse_categorical_accuracy": 0.5}}
    records = by_number(record(0, 0.5), record(1, None, "failed"), record(2, 0.75), record(3, 0.625, "stopped"))
    text = finish(search, records, test)
    assert "validation: sparse_categorical_accuracy 0.7500 (trial 2), the workload's own" in text
    assert "0.5000: better by 0.2500" in text
    assert "0.7500: worse by 0.2500" in text
    directory = search.config.run_path
    best = yaml.safe_load((directory / "best.yaml").read_text())
    assert not {"name", "storage"} & best.keys()
    again = load_config({}, defaults={}, config_file=directory / "best.yaml", environment={})
    wanted = _configs(search, Console(file=io.StringIO()))[2]
    assert again == wanted.model_copy(update={"name": again.name, "storage": again.storage})
    found = json.loads((directory / "results.json").read_text())
    assert (found["best"], len(found["trials"]), found["test"]) == (2, 4, test)
    assert (directory / "hyperparameters.png").stat().st_size > 10_000


def test_a_model_that_cannot_be_loaded_again_leaves_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> Any:
        raise CheckpointError("model.keras cannot be loaded: expected known classes,\nreceived [/Twice].")

    monkeypatch.setattr(results, "open_run", fail)
    search = make(tmp_path)
    text = finish(search, by_number(record(0, 0.5), record(1, 0.75)), {"0": {"sparse_categorical_accuracy": 0.5}})
    assert "validation: sparse_categorical_accuracy 0.7500 (trial 1)" in text
    assert text.endswith(
        f"--config: {search.config.location}/best.yaml\n"
        "test: not evaluated: model.keras cannot be loaded: expected known classes, received [/Twice].\n"
    )
    found = json.loads((search.config.run_path / "results.json").read_text())
    assert (found["best"], found["test"]) == (1, {"0": {"sparse_categorical_accuracy": 0.5}})


def test_nothing_better_than_the_workloads_own_is_said_so(tmp_path: Path) -> None:
    records = by_number(record(0, 0.5), record(1, 0.25))
    assert "no trial is better" in finish(make(tmp_path), records, {"0": {"sparse_categorical_accuracy": 0.5}})


def test_a_workload_whose_own_configuration_fails_has_nothing_to_compare(tmp_path: Path) -> None:
    records = by_number(record(0, None, "failed"), record(1, 0.25))
    text = finish(make(tmp_path), records, {"1": {"sparse_categorical_accuracy": 0.5}})
    assert "the workload's own configuration gave no result" in text


def test_the_table_has_the_trials_that_were_trained_to_the_end_first(tmp_path: Path) -> None:
    records = by_number(record(0, 0.5), record(1, 0.75, "stopped"), record(2, 0.25))
    text = finish(make(tmp_path), records, {"0": {"sparse_categorical_accuracy": 0.5}})
    rows = [line for line in text.splitlines() if "finished" in line or "stopped" in line]
    assert [row.split()[1] for row in rows] == ["0", "2", "1"]


def test_equal_and_small_scores_are_told_apart(tmp_path: Path) -> None:
    test = {"0": {"loss": 0.5}, "1": {"loss": 0.5}}
    text = finish(make(tmp_path, "diabetes"), by_number(record(0, 0.00025), record(1, 0.000125)), test)
    assert "loss 0.000125 (trial 1), the workload's own configuration 0.00025: better by 0.000125" in text
    assert "test: loss 0.5000 (trial 1), the workload's own configuration 0.5000: the same" in text


def test_the_best_configuration_keeps_where_the_data_is(tmp_path: Path) -> None:
    search = make(tmp_path, data_dir=tmp_path)
    finish(search, by_number(record(0, 0.5)), {"0": {}})
    assert yaml.safe_load((search.config.run_path / "best.yaml").read_text())["data_dir"] == str(tmp_path)


def test_a_full_disk_in_the_end_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results, "write_atomically", fail)
    with pytest.raises(StorageError, match=r"best\.yaml cannot be written: .* No space left on device"):
        finish(make(tmp_path), by_number(record(0, 0.5)), {})


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"test": 1}'])
def test_results_that_are_damaged_are_written_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    assert results._known_tests(tmp_path) == {}


@pytest.mark.parametrize(
    ("reason", "state", "advice"),
    [
        ("the loss became nan in epoch 1.", "failed", "smaller learning rates"),
        ("val_f1 became inf.", "failed", "smaller learning rates"),
        ("MemoryError('no room')", "failed", r"MemoryError\('no room'\)\. Correct what it tells, and give another"),
        ("annlib.errors.DataError: no file.", "lost", r"no file\. Correct what it tells, and start the same command"),
    ],
)
def test_the_advice_fits_the_reason(tmp_path: Path, reason: str, state: Any, advice: str) -> None:
    failed = dataclasses.replace(record(0, None, state), reason=reason)
    with pytest.raises(TrainingError, match=advice):
        finish(make(tmp_path), by_number(failed), {})


def test_no_result_at_all_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"all 2 trials failed: .* of trial 0: the loss became nan\."):
        finish(make(tmp_path), by_number(record(0, None, "failed"), record(1, None, "failed")), {})


def test_configurations_are_hashable(tmp_path: Path) -> None:
    config: RunConfig = make(tmp_path).config
    assert len({config, config.model_copy()}) == 1
