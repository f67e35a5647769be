"""Writing to storage that may be away for a while, and reading from it."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from annlib.errors import StorageError

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Between two attempts while training waits for the storage, in seconds.
RETRY_S = 0.5


class StoragePatience:
    """Lets training go on while writing fails, and ends it when that lasts too long.

    Args:
        timeout_s: seconds that writing may fail without a break.
        reads: for what reads, which training waits for.
    """

    def __init__(self, timeout_s: float, *, reads: bool = False) -> None:
        self._timeout_s = timeout_s
        self._verbs = ("read", "read", "waits for it") if reads else ("write", "written", "goes on without it")
        self._failing_since: float | None = None

    def attempt(self, write: Callable[[], object]) -> bool:
        """Writes, or logs why it cannot be done now; tells which.

        Raises:
            StorageError: writing has failed for longer than the timeout.
        """
        try:
            write()
        except OSError as error:
            now = time.monotonic()
            verb, participle, meanwhile = self._verbs
            if self._failing_since is None:
                self._failing_since = now
                logger.warning("the storage cannot be %s, training %s: %s", participle, meanwhile, error)
            if now - self._failing_since >= self._timeout_s:
                raise StorageError(
                    f"the storage could not be {participle} for {now - self._failing_since:.0f} s: expected to {verb} "
                    f"{error.filename or 'a file'}, received {error.strerror or error}. Mend it or make room, then "
                    "start the same command again: it goes on from the last checkpoint. --storage-timeout-s waits "
                    "longer."
                ) from None
            return False
        if self._failing_since is not None:
            logger.warning("the storage is back after %.0f s", time.monotonic() - self._failing_since)
            self._failing_since = None
        return True

    def insist(self, action: Callable[[], _Result]) -> _Result:
        """Does what `attempt` does until it succeeds; returns what came of it. At the timeout, raises StorageError."""
        results: list[_Result] = []
        while not self.attempt(lambda: results.append(action())):
            time.sleep(RETRY_S)
        return results[0]
