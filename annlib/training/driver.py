"""What a driver has around its work: signals, and where output and log lines go."""

import contextlib
import dataclasses
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from rich.console import Console

from annlib.training.line_writer import start_line_writer

logger = logging.getLogger(__name__)

# As shells do it: 130 after Ctrl-C, 143 after SIGTERM.
EXIT_SIGNAL = 128


class DriverConsole(Console):
    """A console whose reader may go away: the work goes on, and the files of the run tell what is not shown."""

    def on_broken_pipe(self) -> None:
        """Shows nothing any more, in place of ending the process."""
        self.quiet = True
        # What is still in Python's buffer would fail when the process ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)
        logger.warning("nobody reads the standard output any more")


@dataclasses.dataclass
class Signals:
    """Ctrl-C, SIGTERM and the SIGHUP of a terminal that goes away.

    Args:
        phase: while "starting", a signal ends the process at once, for there is nothing to save; while "training", it
            is kept, for the training to stop at its next step; while "ending", it changes nothing any more.
        received: the numbers of those that were kept.
    """

    phase: Literal["starting", "training", "ending"] = "starting"
    received: list[int] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def collect_signals(console: Console) -> Iterator[Signals]:
    """Collects signals.

    Ctrl-C after another signal stops at once. A second SIGTERM changes nothing: where a job is stopped and its pod is
    deleted, both send one. Where SIGHUP is ignored, as below `nohup`, it still is.
    """
    signals = Signals()
    received = signals.received

    def handle(signum: int, frame: Any) -> None:
        if signals.phase == "starting":
            raise KeyboardInterrupt if signum == signal.SIGINT else SystemExit(EXIT_SIGNAL + signum)
        received.append(signum)
        if len(received) == 1 and signals.phase == "training":
            name = signal.Signals(signum).name
            logger.info("%s: stopping with a checkpoint", name)
            if signum == signal.SIGHUP:
                # Its terminal may be gone.
                console.quiet = True
            console.print(f"{name}: stopping with a checkpoint; Ctrl-C stops at once", highlight=False)
        elif signum == signal.SIGINT:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {signum: signal.signal(signum, handle) for signum in numbers}
    try:
        yield signals
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextlib.contextmanager
def output_to(path: Path, *, place: str | None = None) -> Iterator[None]:
    """Sends what C++ libraries and Ray write to the process' error stream, and Ray to `sys.stdout`, to a file.

    Args:
        path: the file.
        place: what each line begins with; needed where other processes write to the file as well.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with _lines_of(path, place) as file, contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def _lines_of(path: Path, place: str | None) -> Iterator[IO[str]]:
    if place is None:
        with path.open("a") as file:
            yield file
        return
    writer = start_line_writer(path, place)
    assert writer.stdin is not None
    try:
        with io.TextIOWrapper(writer.stdin, line_buffering=True) as stream:
            yield stream
    finally:
        # Long enough for the last lines. A process that was started meanwhile may hold the stream open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(timeout=2)


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
