"""The log of a Ray worker: each line, also what TensorFlow and Ray write, begins with run, attempt, rank and node."""

import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.storage import is_remote
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.distributed.shared_storage import wait_until_shared
from annlib.training.line_writer import start_line_writer


def open_log(
    config: RunConfig, run: RunDirectory, mailbox: Mailbox, rank: int, node: str, *, patience_s: float
) -> Path:
    """Returns the file for a worker's log lines.

    Args:
        config: the run's configuration.
        run: the run directory.
        mailbox: that of the run.
        rank: the worker's number.
        node: where it is.
        patience_s: seconds to wait for a directory that may be away for a while.

    Raises:
        StorageError: the storage is a directory that this node does not share with the driver's.
    """
    if is_remote(config.storage):
        # An object store has no file that several processes could append to.
        run.logs.mkdir(exist_ok=True)
        return run.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-rank-{rank}.log"

    def tell() -> None:
        mailbox.post("storage", rank=rank, message=f"{node} waits for the run directory {run.path}")

    wait_until_shared(run, mailbox, f"rank {rank} on node {node}", patience_s=patience_s, on_wait=tell)
    return run.log


@contextlib.contextmanager
def log_to(path: Path, place: str) -> Iterator[None]:
    """Sends this process' log lines, and what else goes to its error stream, to a file, which has them all afterwards.

    Args:
        path: the file, which other workers may write to as well.
        place: what each line begins with.
    """
    writer = start_line_writer(path, place)
    assert writer.stdin is not None
    before = os.dup(2)
    os.dup2(writer.stdin.fileno(), 2)
    writer.stdin.close()
    stream = os.fdopen(os.dup(2), "w", buffering=1)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Not the root logger: Ray's and TensorFlow's own handlers write to the error stream already.
    annlib_logger = logging.getLogger("annlib")
    annlib_logger.addHandler(handler)
    annlib_logger.setLevel(logging.INFO)
    annlib_logger.propagate = False
    # It tells of every collective that it traces.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    try:
        yield
    finally:
        annlib_logger.removeHandler(handler)
        stream.close()
        os.dup2(before, 2)
        os.close(before)
        # Long enough for the last lines. A process that was started meanwhile may hold the stream open.
        with contextlib.suppress(subprocess.TimeoutExpired):
            writer.wait(timeout=2)
