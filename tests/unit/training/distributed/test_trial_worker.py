"""The process of trials, without Ray: when it waits for a decision, and what it prepares."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from annlib.artifacts import RunDirectory
from annlib.errors import StorageError
from annlib.training.distributed import shared_storage, trial_worker
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.distributed.trial_worker import TrialWorker
from annlib.training.trial import State, TrialRecord
from annlib.workloads import find


class Flags:
    """A mailbox without a cluster."""

    def __init__(self, *flags: str) -> None:
        self.flags = flags

    def is_set(self, flag: str) -> bool:
        return flag in self.flags


def record(state: State, epochs: int) -> TrialRecord:
    return TrialRecord(number=7, state=state, scores={epochs: 0.5}, epochs=epochs)


def worker(monkeypatch: pytest.MonkeyPatch, *flags: str) -> TrialWorker:
    """A worker that has begun a trial with the rungs 1, 3 and 9, of which it has passed the first one before."""

    def run(number: int, *arguments: Any, go_on: Any, **options: Any) -> TrialRecord:
        go_on(record("replayed", 1))
        is_let = go_on(record("running", 3)) and go_on(record("running", 9))
        return record("finished" if is_let else "stopped", 10)

    monkeypatch.setattr(trial_worker, "run_trial", run)
    made = TrialWorker.__new__(TrialWorker)
    made.__dict__.update(
        _trials_left=5, _is_spent=False, _workload=find("digits"), _configs=[None] * 8, _hparams=[None] * 8,
        _rungs=[1, 3, 9, 10], _mailbox=Flags(*flags),
    )  # fmt: skip
    made._begin(7)
    return made


def steps(worked: TrialWorker) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    while not found or not found[-1][1]:
        result = worked.step()
        found.append((result["record"].state, result["done"]))
    return found


def test_a_trial_that_is_halted_ends_itself_with_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    assert steps(worker(monkeypatch, "halt-7-3")) == [("replayed", False), ("running", False), ("stopped", True)]


def test_a_flag_of_another_rung_or_trial_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = steps(worker(monkeypatch, "halt-7-1", "halt-8-3"))
    assert found == [("replayed", False), ("running", False), ("running", False), ("finished", True)]


def test_tensorflow_is_prepared_before_code_of_the_users_own_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(trial_worker, "_prepare_tensorflow", lambda **options: done.append(f"prepared with {options}"))
    monkeypatch.setattr(trial_worker, "receive_workload", lambda sent: done.append("imported") or find("digits"))
    monkeypatch.setattr(trial_worker, "wait_until_shared", lambda *_, **__: done.append("shared"))
    monkeypatch.setattr(TrialWorker, "_give_signs", lambda self: None)
    monkeypatch.setattr(TrialWorker, "_begin", lambda self, number: done.append("begun"))
    values = {"workload": "digits", "epochs": 1, "global_batch_size": 8, "learning_rate": 1, "cpus_per_worker": 2}
    TrialWorker.__new__(TrialWorker).setup(
        {"number": 0}, configs=[{**values, "use_gpu": False}], hparams=[{}], workload=find("digits"), rungs=[1],
        mailbox=Mailbox(), trials_per_process=1,
    )  # fmt: skip
    assert done == ["prepared with {'cpus': 2, 'use_gpu': False}", "imported", "shared", "begun"]


def test_a_node_that_does_not_share_the_storage_tells_the_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    posted: list[tuple[str, Any]] = []
    mailbox = SimpleNamespace(name="mailbox", post=lambda event, **values: posted.append((event, values["message"])))
    monkeypatch.setattr(shared_storage, "RETRY_S", 0.01)
    monkeypatch.setattr(trial_worker, "SHARED_WITHIN_S", 0.1)
    made = TrialWorker.__new__(TrialWorker)
    made._mailbox = mailbox  # type: ignore[assignment]
    with pytest.raises(StorageError, match="does not see the run directory"):
        made._check_storage(str(tmp_path))
    assert [(event, str(tmp_path) in message) for event, message in posted] == [("error", True)]
    RunDirectory(tmp_path).shared_probe.write_text("mailbox")
    made._check_storage(str(tmp_path))
    assert len(posted) == 1
