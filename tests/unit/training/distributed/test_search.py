"""What the scheduler decides at the rungs, and how trials that are ended early come to their end; without Ray."""

import types
from typing import Any

import pytest

from annlib.training.distributed.search import _Halving, _Tell
from annlib.training.trial import State, TrialRecord


class Flags:
    """A mailbox without a cluster."""

    def __init__(self) -> None:
        self.flags: list[str] = []
        self.records: list[TrialRecord] = []

    def set(self, flag: str) -> None:
        self.flags.append(flag)

    def is_set(self, flag: str) -> bool:
        return flag in self.flags

    def post(self, event: str, *, record: str) -> None:
        self.records.append(TrialRecord.from_json(record))


def halving(mailbox: Any) -> _Halving:
    return _Halving(
        mailbox=mailbox, time_attr="epoch", metric="score", mode="max", max_t=9, grace_period=1, reduction_factor=3
    )


def report(scheduler: _Halving, number: int, score: float, state: State = "running", epoch: int = 1) -> str:
    trial = types.SimpleNamespace(trial_id=str(number), config={"number": number})
    if trial.trial_id not in scheduler._trial_info:
        scheduler.on_trial_add(None, trial)
    record = TrialRecord(number=number, state=state, scores={epoch: score}, epochs=epoch)
    return str(scheduler.on_trial_result(None, trial, {"epoch": epoch, "score": score, "record": record}))


def test_a_trial_that_is_not_worth_it_is_told_so_and_ends_itself() -> None:
    mailbox = Flags()
    scheduler = halving(mailbox)
    # Ray Tune kills what it stops itself, also in the middle of the last evaluation.
    assert {report(scheduler, number, 1 - number / 10) for number in range(4)} == {"CONTINUE"}
    assert mailbox.flags == ["halt-1-1", "halt-2-1", "halt-3-1"]


def test_the_first_trial_is_never_ended() -> None:
    mailbox = Flags()
    scheduler = halving(mailbox)
    for number in (3, 2, 1, 0):
        report(scheduler, number, number / 10)
    assert "halt-0-1" not in mailbox.flags


def test_a_trial_of_an_earlier_start_is_not_judged_again_but_others_are_measured_by_it() -> None:
    mailbox = Flags()
    scheduler = halving(mailbox)
    for number, score in ((1, 0.9), (2, 0.8), (3, 0.7)):
        assert report(scheduler, number, score, "replayed") == "CONTINUE"
    assert mailbox.flags == []
    report(scheduler, 4, 0.6)
    assert mailbox.flags == ["halt-4-1"]


@pytest.mark.parametrize(
    ("state", "told"),
    [("running", "interrupted"), ("replayed", "interrupted"), ("stopped", "stopped"), ("finished", "finished")],
)
def test_what_the_driver_is_told_is_the_record_of_the_trial_itself(state: State, told: State) -> None:
    mailbox: Any = Flags()
    trial = types.SimpleNamespace(last_result={"record": TrialRecord(number=1, state=state)})
    _Tell(mailbox).on_trial_complete(1, [], trial)
    assert [record.state for record in mailbox.records] == [told]
