"""The starts of a run's workers and what ended them: `attempts.jsonl`, a line an event."""

import json
import time
from collections.abc import Sequence
from typing import Any

from annlib.artifacts import RunDirectory


def note(run: RunDirectory, event: str, **values: Any) -> None:
    """Appends an event: "training", the workers have trained their first epoch, or "failure", workers were lost."""
    line = json.dumps({"event": event, "time": time.time(), **values})
    # One write of one line, so that the driver, which reads meanwhile, never sees a part of an event.
    with run.attempts.open("a") as file:
        file.write(line + "\n")


def read(run: RunDirectory) -> list[dict[str, Any]]:
    """Returns all events, the oldest first; a line that is not whole yet is left out."""
    try:
        lines = run.attempts.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def summary(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns {"attempts": number of starts that trained, "restarts": [{"cause", "seconds_lost"}], "world_sizes"}."""
    restarts: list[dict[str, Any]] = []
    failure: dict[str, Any] | None = None
    for event in events:
        if event["event"] == "failure":
            failure = failure or event
        elif failure is not None:
            restarts.append({"cause": failure["cause"], "seconds_lost": round(event["time"] - failure["time"], 1)})
            failure = None
    starts = [event for event in events if event["event"] == "training"]
    return {"attempts": len(starts), "restarts": restarts, "world_sizes": [event["world_size"] for event in starts]}
