"""The log of a Ray worker: each line, also what TensorFlow and Ray write, begins with run, attempt, rank and node."""

import logging
import os
import time
from pathlib import Path

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.errors import StorageError
from annlib.storage import is_remote
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.line_writer import start_line_writer


def open_log(config: RunConfig, run: RunDirectory, mailbox: Mailbox, rank: int, node: str) -> Path:
    """Returns the file for a worker's log lines.

    Raises:
        StorageError: the storage is a directory that this node does not share with the driver's.
    """
    if is_remote(config.storage):
        # An object store has no file that several processes could append to.
        run.logs.mkdir(exist_ok=True)
        return run.logs / f"{time.strftime('%Y%m%d-%H%M%S')}-rank-{rank}.log"
    try:
        is_shared = run.shared_probe.read_text() == mailbox.name
    except OSError:
        is_shared = False
    if not is_shared:
        raise StorageError(
            f"rank {rank} on node {node} does not see the run directory {run.path}: expected storage that all nodes "
            "share, received a directory of the driver's node alone. Give --storage a path that is mounted on all "
            "nodes, or a URI such as s3://bucket/runs."
        )
    return run.log


def log_to(path: Path, place: str) -> None:
    """Sends this process' log lines, and what else goes to its error stream, to a file.

    Args:
        path: the file, which other workers may write to as well.
        place: what each line begins with.
    """
    stream = start_line_writer(path, place).stdin
    assert stream is not None
    os.dup2(stream.fileno(), 2)
    handler = logging.StreamHandler(os.fdopen(os.dup(2), "w", buffering=1))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # Not the root logger: Ray's and TensorFlow's own handlers write to the error stream already.
    annlib_logger = logging.getLogger("annlib")
    annlib_logger.addHandler(handler)
    annlib_logger.setLevel(logging.INFO)
    annlib_logger.propagate = False
    # It tells of every collective that it traces.
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
