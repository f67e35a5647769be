"""The directory in which downloaded raw data is kept. Many processes and machines may share it without a lock."""

import os
from pathlib import Path

from annlib.artifacts import write_atomically


def cache_directory() -> Path:
    """Return `$ANNLIB_CACHE_DIR`, or `$XDG_CACHE_HOME/annlib`, or `~/.cache/annlib`. It need not exist.

    Raises:
        OSError: There is no home directory, as for a container's user without an entry in /etc/passwd.
    """
    if own := os.environ.get("ANNLIB_CACHE_DIR"):
        return Path(own)
    # The XDG Base Directory Specification says that a relative path is invalid and to be ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):
        return Path(xdg) / "annlib"
    try:
        return Path.home() / ".cache" / "annlib"
    except RuntimeError as error:
        raise FileNotFoundError(f"no home directory ({error}); set ANNLIB_CACHE_DIR") from error


def store(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a reader sees the whole file or none, and make the directories it needs.

    Two processes may store the same path at the same time: both hold the same verified content, so it does not
    matter whose rename is the last.

    Raises:
        OSError: The directory cannot be made or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)
