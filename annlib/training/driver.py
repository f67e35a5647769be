"""What a driver has around its work: where output goes."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Sends what C++ libraries and Ray write to the process' error stream, and Ray to `sys.stdout`, to a file."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with path.open("a") as file, contextlib.redirect_stdout(file):
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)
