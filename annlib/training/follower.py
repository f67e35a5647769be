"""What the driver shows and notes of what the workers tell."""

import time
from typing import Any

from rich.console import Console

from annlib.artifacts import RunDirectory
from annlib.reporting.terminal import RunDisplay, print_line
from annlib.training import attempts


class Follower:
    """Takes the messages of a distributed training.

    Args:
        run: the run directory, whose `attempts.jsonl` gets the events.
        display: shows the rows of the history.
        console: gets a line for each failure and what came of it.
    """

    def __init__(self, run: RunDirectory, display: RunDisplay, console: Console) -> None:
        self._run = run
        self._display = display
        self._console = console
        self._epoch = len(run.read_history())
        self._nodes: dict[int, str] = {}
        self._world_size = 0
        self._ended_at: float | None = None
        self._last_failure: tuple[list[int], str] | None = None

    def take(self, message: dict[str, Any]) -> None:
        """Shows a message, and notes it where it tells of the workers' starts and ends."""
        kind = message["event"]
        # Clocks of other nodes may be minutes off.
        message["time"] = time.time()
        if kind == "rows":
            for row in message["rows"]:
                # After a restart the epochs since the checkpoint come once more.
                if row["epoch"] > self._epoch:
                    self._epoch = row["epoch"]
                    self._display.show(row)
            return
        if kind == "waiting":
            self._print(f"waiting for the workers to start: expected {message['room']}")
            return
        if kind == "storage":
            self._print(f"rank {message['rank']}: {message['message']}")
            return
        if kind == "worker":
            self._nodes[message["rank"]] = message["node"]
            self._world_size = message["world_size"]
            self._last_failure = None
            if self._ended_at is not None and message["rank"] == 0:
                self._print(f"all {self._world_size} workers start again")
        elif kind in ("failure", "resize"):
            failure = (message["ranks"], message["cause"])
            if failure == self._last_failure:
                # Ray Train tells it again at each look, while it waits for a node that is taken away.
                return
            self._last_failure = failure
            nodes = ", ".join(sorted({self._nodes.get(rank, "an unknown node") for rank in message["ranks"]}))
            message["cause"] += f" (node {nodes})" if nodes else ""
            self._ended_at = self._ended_at or message["time"]
            self._print(message["cause"])
        elif kind == "preemption":
            self._print(f"the nodes of ranks {message['ranks']} are about to be taken away; saving until then")
        elif kind == "training" and self._ended_at is not None:
            seconds = message["time"] - self._ended_at
            self._print(f"training again after {seconds:.1f} s with {self._world_size} workers")
            self._ended_at = None
        attempts.note(self._run, message)

    def _print(self, line: str) -> None:
        print_line(self._console, line)
