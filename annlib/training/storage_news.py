"""Tells the user when storage is away and when it is back, which goes to the log as well."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from annlib import mirror
from annlib.training import storage_patience


class _Teller(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._tell(record.getMessage())
        except Exception:
            # Whoever is told is away, too: that must not end what logs.
            self.handleError(record)


@contextlib.contextmanager
def storage_news(tell: Callable[[str], None]) -> Iterator[None]:
    """Calls `tell` with one line when a storage cannot be written, and with one when it can be again."""
    teller = _Teller(tell)
    loggers = [logging.getLogger(module.__name__) for module in (mirror, storage_patience)]
    for logger in loggers:
        logger.addHandler(teller)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(teller)
