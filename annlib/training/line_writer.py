"""Lines of an error stream in a file that other processes write to as well."""

import subprocess
import sys
from pathlib import Path

# A process of its own, so that the last words of a process that aborts or is killed are written. It writes a line with
# its place in one call, for C++ libraries write the end of a line by itself. A line that the disk has no room for is
# left out: training bears with that, and so does its log.
_WRITE_LINES = """
import contextlib, sys
place = sys.argv[1].encode() + b" "
with open(sys.argv[2], "ab", buffering=0) as log:
    for line in sys.stdin.buffer:
        with contextlib.suppress(OSError):
            log.write(place + line)
"""


def start_line_writer(path: Path, place: str) -> subprocess.Popen[bytes]:
    """Starts a process that appends what comes to its `stdin` to a file; it ends when nobody can write there any more.

    Args:
        path: the file, which other processes may append to.
        place: what each line begins with.
    """
    # Not in the caller's process group: Ctrl-C would end it before the caller's last words.
    return subprocess.Popen(
        [sys.executable, "-ESc", _WRITE_LINES, place, str(path)], stdin=subprocess.PIPE, start_new_session=True
    )
