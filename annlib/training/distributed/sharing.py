"""One copy of a data set in memory for all workers of a node.

The first worker of a node loads it, and puts it into memory that is no file of any directory, so that nothing is left
behind, however the workers end. The others map that memory through the first one's process.
"""

import logging
import mmap
import os
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any

from annlib.data import Dataset
from annlib.data.dataset import StreamedSplit
from annlib.training.distributed.mailbox import Mailbox

logger = logging.getLogger(__name__)

# What TensorFlow wants, to take an array as it is; a page, for the arrays come in pages anyway.
ALIGNMENT = mmap.PAGESIZE
POLL_S = 0.05
# A worker that has waited so long loads the data by itself, in seconds.
WAIT_S = 600.0


def load_once(load: Callable[[], Dataset], mailbox: Mailbox, *, attempt: int, local_world_size: int) -> Dataset:
    """Returns the data set, whose arrays all workers of a group share. Changes of one worker are its own.

    Args:
        load: loads it; called by the first worker, and by the others where nothing can be shared.
        mailbox: of the run.
        attempt: number of the start of the workers.
        local_world_size: how many of them are on this node.

    Raises:
        Exception: what `load` raises.
    """
    # Memory that has no name, and processes in /proc, are Linux'.
    if local_world_size == 1 or not hasattr(os, "memfd_create"):
        return load()
    # Who sees the same processes. Ray's own ranks do not tell where several of its nodes are on one machine.
    group = f"{attempt}/{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    if not mailbox.claim(f"data/{group}"):
        found = _wait(mailbox, group)
        try:
            return _map(found) if found else load()
        except OSError:
            # The first one is gone: all start again soon.
            return load()
    place: dict[str, Any] = {}
    try:
        data = load()
        # What is on disk is shared already.
        if not isinstance(data.train, StreamedSplit):
            place = _share(data)
    finally:
        mailbox.put(f"data/{group}", place)
    if not place:
        return data
    logger.info("%d workers of this node share the data set", local_world_size)
    return _map(place)


def _wait(mailbox: Mailbox, group: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        found = mailbox.get(f"data/{group}")
        if found is not None:
            return found
        time.sleep(POLL_S)
    return {}


def _share(data: Dataset) -> dict[str, Any]:
    """Copies a data set into memory that others can map; returns where it is."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(data, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    offsets = [0]
    for part in parts:
        offsets.append(-(-(offsets[-1] + len(part)) // ALIGNMENT) * ALIGNMENT)
    # Open as long as this process lives, for others that come late.
    file = os.memfd_create("annlib-data")
    os.ftruncate(file, offsets[-1])
    with mmap.mmap(file, 0) as memory:
        for offset, part in zip(offsets, parts, strict=False):
            memory[offset : offset + len(part)] = part
    return {
        "path": f"/proc/{os.getpid()}/fd/{file}",
        "parts": [(offset, len(part)) for offset, part in zip(offsets, parts, strict=False)],
    }


def _map(place: dict[str, Any]) -> Dataset:
    with open(place["path"], "rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    head, *buffers = (memory[offset : offset + size] for offset, size in place["parts"])
    data: Dataset = pickle.loads(head, buffers=buffers)
    return data
