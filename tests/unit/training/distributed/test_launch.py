"""What the driver makes of the workers' messages and of a stop; the workers are the test's own."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from annlib.config import RunConfig
from annlib.training.distributed import launch

RESULT = {"event": "result", "interrupted": True, "progress": "epoch 3"}


class Mailbox:
    """Gives prepared messages, and the workers' result once they are asked to stop."""

    def __init__(self, events: Sequence[str]) -> None:
        self.events = list(events)
        self.asked = threading.Event()

    def take(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = [{"event": event} for event in self.events]
        self.events = []
        return [*messages, RESULT] if self.asked.is_set() else messages

    def set(self, name: str) -> None:
        assert name == "stop"
        self.asked.set()


def follow(mailbox: Mailbox) -> dict[str, Any] | None:
    # As Ray Train: it ends when the workers have.
    thread = threading.Thread(target=mailbox.asked.wait, daemon=True)
    thread.start()
    config = RunConfig(workload="digits", num_workers=(2, 2), epochs=5, global_batch_size=32, learning_rate=0.1)
    try:
        return launch._follow(thread, mailbox, config, lambda message: None, lambda: True)  # type: ignore[arg-type]
    finally:
        mailbox.asked.set()


@pytest.mark.parametrize(
    "events", [[], ["worker", "worker"], ["worker", "training", "failure"], ["training", "resize"]]
)
def test_a_stop_while_no_worker_trains_ends_at_once(events: list[str]) -> None:
    mailbox = Mailbox(events)
    result = follow(mailbox)
    assert result is not None
    assert result["interrupted"]
    assert result["progress"] is None


def test_workers_that_are_lost_while_they_stop_are_not_waited_for() -> None:
    mailbox = Mailbox(["worker", "training"])
    take = mailbox.take
    # Not before they are asked to stop, and in the place of their checkpoint.
    mailbox.take = lambda: [{"event": "failure"}] if mailbox.asked.is_set() else take()  # type: ignore[method-assign]
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, daemon=True)
    thread.start()
    config = RunConfig(workload="digits", num_workers=(2, 2), epochs=5, global_batch_size=32, learning_rate=0.1)
    try:
        result = launch._follow(thread, mailbox, config, lambda message: None, lambda: True)  # type: ignore[arg-type]
    finally:
        ended.set()
    assert result == {"event": "result", "interrupted": True, "progress": None}


def test_a_stop_while_they_train_waits_for_their_checkpoint() -> None:
    assert follow(Mailbox(["worker", "training", "rows"])) == RESULT
