"""Options of XLA, which it takes from the environment once in a process."""

import contextlib
import os
from collections.abc import Iterator, Sequence

_FLAGS = "XLA_FLAGS"


@contextlib.contextmanager
def compiling(options: Sequence[str]) -> Iterator[None]:
    """Gives XLA options; it has to surround the first compilation of the process.

    XLA reads its options then and never again. They are taken back, so that processes which start later get what the
    user has set. What the user has set stays as it is.

    Args:
        options: such as "--xla_cpu_enable_fast_math=true".
    """
    before = os.environ.get(_FLAGS)
    mine = [option for option in options if option.split("=")[0] not in (before or "")]
    if not mine:
        yield
        return
    os.environ[_FLAGS] = " ".join([before, *mine] if before else mine)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FLAGS]
        else:
            os.environ[_FLAGS] = before
