"""A process that is kept alive, and does one thing at a time when it is asked to."""

import contextlib
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from annlib.errors import AnnlibError, TrainingError


class Child:
    """A process of its own; it sleeps while it is not asked, and ends with its parent.

    Args:
        name: what errors call it.
        environment: variables set before anything is imported.
        core: the only core it may use, as of `taskset --cpu-list`; None is all cores.
    """

    def __init__(self, name: str, *, environment: Mapping[str, str] | None = None, core: int | None = None) -> None:
        self._name = name
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # TensorFlow greets in a few lines; what a process wrote last matters only where it ended.
        self._log = tempfile.NamedTemporaryFile(prefix="annlib-benchmark-")  # noqa: SIM115
        arguments = (theirs, environment or {}, core, self._log.name)
        self._process = context.Process(target=_serve, args=arguments, name=name, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()
        self._log.close()

    def call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float = 600.0) -> Any:
        """Runs a function of a module there; returns what it returns.

        Raises:
            AnnlibError: the function raised it.
            TrainingError: it failed in another way, or took longer than `timeout_s`.
        """
        self.send(function, *arguments)
        return self.receive(timeout_s=timeout_s)

    def send(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Starts what `call` does."""
        with contextlib.suppress(BrokenPipeError):  # `receive` tells
            self._connection.send((function, arguments))

    def receive(self, *, timeout_s: float) -> Any:
        """Waits for what was started; returns and raises as `call` does."""
        if not self._connection.poll(timeout_s):
            raise TrainingError(
                f"{self._name} did not answer: expected a figure within {timeout_s:g} s, received none. Close what "
                "else runs on this machine, and try again."
            )
        try:
            succeeded, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            last_line = " ".join(Path(self._log.name).read_text(errors="replace").split("\n")[-2:-1])
            raise TrainingError(
                f"{self._name} ended: expected a figure, received exit code {self._process.exitcode} of its process "
                f"(-9 often means that memory ran out; its last words: {last_line or 'none'}). Close what else runs on "
                "this machine, and try again."
            ) from None
        if succeeded:
            return value
        raise value if isinstance(value, AnnlibError) else TrainingError(f"{self._name} failed: {value}")


def call_all(children: Sequence[Child], function: Callable[..., Any], *arguments: Any, timeout_s: float) -> list[Any]:
    """Runs a function in all children at the same time; returns what each returns, and raises as `Child.call` does."""
    for child in children:
        child.send(function, *arguments)
    deadline = time.monotonic() + timeout_s
    return [child.receive(timeout_s=max(0.0, deadline - time.monotonic())) for child in children]


def _serve(connection: Connection, environment: Mapping[str, str], core: int | None, log: str) -> None:
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)
    if core is not None:
        os.sched_setaffinity(0, {core})
    while True:
        try:
            function, arguments = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            answer = (True, function(*arguments))
        except KeyboardInterrupt:
            return
        except AnnlibError as error:
            answer = (False, error)
        except Exception:
            answer = (False, traceback.format_exc())
        connection.send(answer)
