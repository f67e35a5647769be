"""The directory that a process of a run works in: the one of `--storage`, or a copy that goes to an object store."""

import contextlib
import dataclasses
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from annlib.artifacts import RunDirectory, locked
from annlib.config import RunConfig
from annlib.errors import StorageError
from annlib.mirror import Mirror
from annlib.storage import Remote, is_remote
from annlib.training.context import nothing

# A user who starts a run wants to know soon that there is no such store, in seconds.
START_PATIENCE_S = 10.0

# What a copy of a run, `RunConfig.run_path`, is called, and when one that nobody has locked counts as left, in seconds.
COPIES = "annlib-[0-9]*-*"
LEFT_AFTER_S = 60.0


# No space, over quota, too large, read-only, a failing disk, a network or user-space file system that went away.
_STORAGE_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.EREMOTEIO,
)


@dataclasses.dataclass(frozen=True)
class RunStorage:
    """Where a run is kept.

    Args:
        run: the files, in this machine's file system.
        check: raises StorageError when the object store has been away for too long; cheap.
        flush: copies everything to the object store now; raises StorageError when it is away for too long.
        refresh: fetches from the object store what other processes of the run have written, without checkpoints.
        fetch: fetches what was fetched at the start anew, with what is there by now.
    """

    run: RunDirectory
    check: Callable[[], None] = nothing
    flush: Callable[[], None] = nothing
    refresh: Callable[[], None] = nothing
    fetch: Callable[[], None] = nothing


@contextlib.contextmanager
def open_run_storage(
    config: RunConfig, *, patience_s: float = START_PATIENCE_S, leave_out: Sequence[str] = ()
) -> Iterator[RunStorage]:
    """Gives the run's directory. What is written there is on the object store in the end.

    Args:
        config: the run's configuration.
        patience_s: seconds to wait for an object store that does not answer at the start.
        leave_out: what not to fetch from the object store, such as "tensorboard/".

    Raises:
        StorageError: the object store cannot be read or written.
    """
    run = RunDirectory(config.run_path)
    if not is_remote(config.storage):
        yield RunStorage(run)
        return
    remote = Remote(config.location)
    remote.probe(timeout_s=patience_s)
    with _own_directory(run.path.parent):
        run.path.mkdir()
        with Mirror(run.path, remote, timeout_s=config.storage_timeout_s) as mirror:
            mirror.pull(exclude=leave_out)
            # What this process writes itself is newer here.
            own = (run.log.name, run.attempts.name, run.config.name)
            yield RunStorage(
                run,
                check=mirror.check,
                flush=mirror.flush,
                refresh=lambda: mirror.pull(exclude=("checkpoints/", *own)),
                fetch=lambda: mirror.pull(exclude=(*leave_out, *own)),
            )


@contextlib.contextmanager
def errors_of_storage(config: RunConfig) -> Iterator[None]:
    """Turns errors of a run's or a search's files into one line.

    Workers wait for a storage that is away; what the driver writes at the start and the end is not worth that.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE_ERRORS and config.run_path not in Path(str(error.filename)).parents:
            raise
        raise StorageError(
            f"the storage {config.location} failed: expected to read and write {error.filename or 'its files'}, "
            f"received {error.strerror}. Mend it, its permissions or room, then start the same command again: it goes "
            "on from where it was."
        ) from error


@contextlib.contextmanager
def _own_directory(path: Path) -> Iterator[None]:
    """Makes a directory that goes with this process; removes those of processes that were killed."""
    for left in path.parent.glob(COPIES):
        # One that has just been made may not be locked yet.
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > LEFT_AFTER_S and left.stat().st_uid == os.getuid():
                with locked(left):
                    shutil.rmtree(left, ignore_errors=True)
    path.mkdir(mode=0o700)
    try:
        with locked(path):
            yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
