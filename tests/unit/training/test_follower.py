"""What a user reads of a distributed training, and what is noted of it."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from annlib.artifacts import RunDirectory
from annlib.reporting.terminal import RunDisplay
from annlib.training import attempts
from annlib.training.follower import Follower

WORKERS: list[dict[str, Any]] = [
    {"event": "worker", "rank": rank, "node": f"node-{rank}", "world_size": 2} for rank in (0, 1)
]
FAILURE = {"event": "failure", "ranks": [1], "cause": "the process of rank 1 was lost"}


def follow(path: Path, messages: list[dict[str, Any]]) -> list[str]:
    """Returns the lines that are shown."""
    console = Console(file=io.StringIO(), width=200)
    follower = Follower(RunDirectory(path), RunDisplay(console, epochs=3, metrics=()), console)
    for message in messages:
        follower.take(dict(message))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_failure_is_told_once_and_the_start_after_it(tmp_path: Path) -> None:
    messages = [*WORKERS, {"event": "training"}, FAILURE, FAILURE, FAILURE, *WORKERS, {"event": "training"}]
    lines = follow(tmp_path, messages)
    assert lines[:2] == ["the process of rank 1 was lost (node node-1)", "all 2 workers start again"]
    assert lines[2].startswith("training again after 0.0 s with 2 workers")
    assert [event["event"] for event in attempts.read(RunDirectory(tmp_path))].count("failure") == 1


def test_the_same_failure_of_the_next_workers_is_told_again(tmp_path: Path) -> None:
    lines = follow(tmp_path, [*WORKERS, FAILURE, *WORKERS, FAILURE])
    assert lines.count("the process of rank 1 was lost (node node-1)") == 2
    # Nothing tells that there are no more of them.
    assert lines.count("all 2 workers start again") == 1


def test_events_have_the_drivers_time(tmp_path: Path) -> None:
    before = time.time()
    follow(tmp_path, [{**WORKERS[0], "time": 5.0}])
    assert attempts.read(RunDirectory(tmp_path))[0]["time"] == pytest.approx(before, abs=60)
