"""A local directory that is copied to an object store as it changes."""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from annlib.errors import StorageError
from annlib.storage import Remote, describe

logger = logging.getLogger(__name__)

# Between two looks at the directory, in seconds.
EVERY_S = 0.5
# Between two attempts while the store is away: doubled each time, in seconds.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 5.0
# A file that grows, such as events of TensorBoard, is copied whole again; a large one this often only, in seconds.
LARGE_BYTES, LARGE_EVERY_S = 8 * 2**20, 10.0
# Names a directory's files, with their checksums. Without it, a checkpoint is not there.
MANIFEST = "manifest.json"
# With one of these, a run, a trial or a search is finished.
FINISHED = ("metrics.json", "trial.json", "results.json")

_Version = tuple[int, int]


class Mirror:
    """Copies what changes in a directory to an object store, in a thread of its own.

    Names that begin with a dot are temporary and stay here. What vanishes here is removed there.

    Args:
        directory: what is copied.
        remote: where it goes.
        timeout_s: seconds that the store may be away without a break.
    """

    def __init__(self, directory: Path, remote: Remote, *, timeout_s: float) -> None:
        self._directory = directory
        self._remote = remote
        self._timeout_s = timeout_s
        self._copied: dict[str, _Version] = {}
        self._copied_at: dict[str, float] = {}
        self._away_since: float | None = None
        self._reason = ""
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        if kind is None:
            self.flush()
        elif self._lock.acquire(timeout=1.0):
            # The log at least, so that the error can be read; but an error is not the time to wait for a store.
            self._lock.release()
            self._attempt(lambda: self._copy(only=(".log", ".jsonl")))

    def pull(self, *, exclude: Sequence[str] = ()) -> None:
        """Fetches what is on the store, but for names that begin with one of `exclude`.

        Raises:
            StorageError: the store is away for longer than the timeout.
        """

        def fetch() -> None:
            for name in self._remote.list():
                if not name.startswith(tuple(exclude)) and not _is_temporary(Path(name)):
                    self._remote.download(name, self._directory / name)
                    self._copied[name] = _version(self._directory / name) or (0, 0)

        with self._lock:
            self._insist(fetch)

    def flush(self) -> None:
        """Returns when everything is on the store.

        Raises:
            StorageError: the store is away for longer than the timeout.
        """
        with self._lock:
            self._insist(self._copy)

    def check(self) -> None:
        """Raises StorageError when the store has been away for longer than the timeout."""
        since = self._away_since
        if since is not None and time.monotonic() - since >= self._timeout_s:
            raise StorageError(
                f"{self._remote.uri} could not be written for {time.monotonic() - since:.0f} s: expected an object "
                f"store that answers, received {self._reason}. Mend it, then start the same command again: it goes on "
                "from the last checkpoint there. --storage-timeout-s waits longer."
            )

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            with self._lock:
                if self._end.is_set():
                    return
                is_well = self._attempt(self._copy)
            wait_s = FIRST_WAIT_S if is_well else min(2 * wait_s, LONGEST_WAIT_S)
            self._end.wait(EVERY_S if is_well else wait_s * random.uniform(0.5, 1.0))  # no secret

    def _insist(self, action: Callable[[], None]) -> None:
        wait_s = FIRST_WAIT_S
        while not self._attempt(action):
            self.check()
            time.sleep(wait_s * random.uniform(0.5, 1.0))  # no secret
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except OSError as error:
            self._reason = describe(error)
            if self._away_since is None:
                self._away_since = time.monotonic()
                logger.warning("%s is away, training goes on: %s", self._remote.uri, self._reason)
            return False
        if self._away_since is not None:
            logger.warning("%s is back after %.0f s", self._remote.uri, time.monotonic() - self._away_since)
            self._away_since = None
        return True

    def _copy(self, only: Sequence[str] = ("",)) -> None:
        versions: dict[str, _Version] = {}
        # Checkpoints come and go meanwhile, which os.walk bears with, and Path.rglob does not.
        for directory, _, names in os.walk(self._directory):
            for path in (Path(directory, name) for name in names if name.endswith(tuple(only))):
                relative = path.relative_to(self._directory)
                version = None if _is_temporary(relative) else _version(path)
                if version is not None:
                    versions[relative.as_posix()] = version
        # A manifest comes after the files that it names, and goes before them; what says that all is done comes last.
        for name in sorted(versions, key=lambda name: (name in FINISHED, name.endswith(MANIFEST), name)):
            if self._copied.get(name) != versions[name] and not self._is_too_early(name, versions[name]):
                self._upload(name, versions[name])
        if tuple(only) == ("",):
            for name in sorted(self._copied.keys() - versions.keys(), key=lambda name: not name.endswith(MANIFEST)):
                self._remote.delete(name)
                del self._copied[name]

    def _upload(self, name: str, version: _Version) -> None:
        path = self._directory / name
        # So that a copy which is broken off is removed when the file is.
        self._copied.setdefault(name, (0, 0))
        try:
            self._remote.upload(path, name)
        except FileNotFoundError:
            if path.exists():
                raise
            return  # removed since it was listed, as old checkpoints are
        self._copied[name] = version
        self._copied_at[name] = time.monotonic()

    def _is_too_early(self, name: str, version: _Version) -> bool:
        before = self._copied.get(name)
        grows = before is not None and version[1] > before[1] > LARGE_BYTES
        return grows and not self._end.is_set() and time.monotonic() - self._copied_at[name] < LARGE_EVERY_S


def _is_temporary(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)


def _version(path: Path) -> _Version | None:
    """Returns what tells a file's contents from earlier ones; None where there is no such file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return None if path.is_dir() else (status.st_mtime_ns, status.st_size)
