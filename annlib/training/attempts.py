"""The starts of a run's workers and what ended them: `attempts.jsonl`, a line an event, written by the driver."""

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from annlib.artifacts import RunDirectory

logger = logging.getLogger(__name__)


def note(run: RunDirectory, message: Mapping[str, Any]) -> None:
    """Appends an event.

    Args:
        run: the run directory.
        message: {"event", "time": seconds since 1970 by the driver's clock, ...}. Events are "start", of the driver;
            "worker", a process is there; "training", its first steps have run; "failure", workers were lost; "resize",
            nodes came or went; "preemption", a node is about to be taken away.
    """
    try:
        with run.attempts.open("a+b") as file:
            line = json.dumps(message).encode() + b"\n"
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    # A part of a line, which a full disk has left.
                    line = b"\n" + line
            file.write(line)
    except OSError as error:
        # Training bears with storage that is away, and so does this.
        logger.warning("%s could not be noted: %s", message["event"], error)


def read(run: RunDirectory) -> list[dict[str, Any]]:
    """Returns all events, the oldest first; a line that was cut off by a crash or a full disk is left out."""
    try:
        lines = run.attempts.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    events = []
    for line in lines:
        with contextlib.suppress(ValueError):
            events.append(json.loads(line))
    return events


def summary(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns {"attempts": number of starts of the workers, "restarts": [{"cause", "seconds_lost"}], "world_sizes"}.

    The seconds are those from where the driver learned what ended training, or was itself started again, until the
    first steps have run again.
    """
    restarts: list[dict[str, Any]] = []
    ended: Mapping[str, Any] | None = None
    has_trained = False
    for event in events:
        kind = event["event"]
        if kind in ("failure", "resize") or (kind == "start" and has_trained):
            cause = event.get("cause", "the driver was started again")
            first = ended or {"cause": cause, "time": event["time"]}
            # Nobody waited for the workers while there was no driver.
            ended = {**first, "time": event["time"]} if kind == "start" else first
        elif kind == "training":
            if ended is not None:
                restarts.append({"cause": ended["cause"], "seconds_lost": round(event["time"] - ended["time"], 1)})
                ended = None
            has_trained = True
    starts = [event for event in events if event["event"] == "worker" and event["rank"] == 0]
    return {"attempts": len(starts), "restarts": restarts, "world_sizes": [event["world_size"] for event in starts]}
