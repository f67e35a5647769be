"""What a driver has around its work: signals, and where output and log lines go."""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

# As shells do it: 130 after Ctrl-C, 143 after SIGTERM.
EXIT_SIGNAL = 128


@contextlib.contextmanager
def collect_signals(console: Console) -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM: the first one stops at the next step, Ctrl-C after it at once.

    A second SIGTERM changes nothing: where a job is stopped and its pod is deleted, both send one.
    """
    received: list[int] = []

    def handle(signum: int, frame: Any) -> None:
        received.append(signum)
        if len(received) == 1:
            name = signal.Signals(signum).name
            console.print(f"{name}: stopping with a checkpoint; Ctrl-C stops at once", highlight=False)
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Sends what C++ libraries and Ray write to the process' error stream, and Ray to `sys.stdout`, to a file."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with path.open("a") as file, contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def log_to(path: Path, *, place: str = "driver") -> Iterator[None]:
    """Sends this process' log lines to a file, each with the place where it was written."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {place} %(levelname)s %(name)s: %(message)s"))
    annlib_logger = logging.getLogger("annlib")
    annlib_logger.addHandler(handler)
    annlib_logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        annlib_logger.removeHandler(handler)
        handler.close()
