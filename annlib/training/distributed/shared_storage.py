"""Whether a node sees the directory that the driver writes to."""

import contextlib
import time
from collections.abc import Callable, Iterator

from annlib.artifacts import RunDirectory
from annlib.errors import StorageError
from annlib.training.context import nothing
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.storage_patience import RETRY_S

# A network file system may show what the driver has just written this much later, in seconds.
SHARED_WITHIN_S = 5.0


@contextlib.contextmanager
def shown_to_nodes(run: RunDirectory, mailbox: Mailbox) -> Iterator[None]:
    """Lets other nodes see meanwhile that they share the directory of a run or a search."""
    run.shared_probe.write_text(mailbox.name)
    try:
        yield
    finally:
        run.shared_probe.unlink(missing_ok=True)


def wait_until_shared(
    run: RunDirectory,
    mailbox: Mailbox,
    place: str,
    *,
    patience_s: float,
    on_wait: Callable[[], None] = nothing,
) -> None:
    """Returns when this node sees the directory.

    Args:
        run: the directory of the run or the search.
        mailbox: that of the run or the search.
        place: what messages call this process and its node.
        patience_s: seconds to wait for it.
        on_wait: called once where it is not there at once.

    Raises:
        StorageError: the directory is one of the driver's node alone.
    """
    deadline, waits = time.monotonic() + patience_s, False
    while not _is_shared(run, mailbox):
        if not waits:
            waits = True
            on_wait()
        if time.monotonic() >= deadline:
            raise StorageError(
                f"{place} does not see the run directory {run.path}: expected storage that all nodes share, received a "
                "directory of the driver's node alone. Give --storage a path that is mounted on all nodes, or a URI "
                "such as s3://bucket/runs."
            )
        time.sleep(RETRY_S)


def _is_shared(run: RunDirectory, mailbox: Mailbox) -> bool:
    try:
        return run.shared_probe.read_text() == mailbox.name
    except OSError:
        return False
