"""What XLA compiled, kept on the disk, so that the next run of the same model and shapes does not compile again.

TensorFlow does this itself where TF_XLA_FLAGS says so, and looks a function up by all that goes into it. It knows
nothing of TensorFlow's version and of the processor, so each pair of them has a directory of its own.
"""

import contextlib
import hashlib
import importlib.metadata
import logging
import os
import platform
import shutil
from pathlib import Path

from annlib.data.cache import cache_directory

logger = logging.getLogger(__name__)

# A compiled function of a small model takes 0.3 to 1 MB.
MAX_FILES = 100
MIN_FREE_BYTES = 2**26

_VARIABLE = "TF_XLA_FLAGS"


def enable() -> None:
    """Lets TensorFlow keep what XLA compiles on the CPU, from now on, in `ANNLIB_CACHE_DIR`, for this process.

    It must be called before TensorFlow runs its first operation, which makes the first variable of a model. Does
    nothing where TF_XLA_FLAGS is set, or where the directory cannot be written.
    """
    if _VARIABLE in os.environ:
        return
    try:
        directory = _directory()
        # What lies there is run as machine code.
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_oldest(directory, MAX_FILES)
        # XLA compiles nothing at all where TensorFlow cannot write.
        if not os.access(directory, os.W_OK) or shutil.disk_usage(directory).free < MIN_FREE_BYTES:
            return
    except OSError as error:
        logger.info("compiled functions are not kept: %s", error)
        return
    # The variable separates flags by white space and knows no quotes.
    if not any(character.isspace() for character in str(directory)):
        os.environ[_VARIABLE] = (
            f"--tf_xla_persistent_cache_directory={directory} --tf_xla_persistent_cache_device_types=CPU"
        )


def clear() -> None:
    """Removes what is kept for this TensorFlow and this processor, as after a file that was damaged."""
    with contextlib.suppress(OSError):
        _remove_oldest(_directory(), 0)


def _directory() -> Path:
    try:
        cpu = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
        # The speed in MHz changes all the time.
        features = "".join(line for line in cpu.splitlines() if line.startswith(("model name", "flags", "Features")))
    except OSError:
        features = platform.node()
    what = f"{importlib.metadata.version('tensorflow')} {os.environ.get('XLA_FLAGS')} {platform.machine()} {features}"
    return cache_directory() / "xla" / hashlib.sha256(what.encode()).hexdigest()[:16]


def _remove_oldest(directory: Path, num_kept: int) -> None:
    """Leaves the newest files; other processes may do the same at the same time."""
    files = []
    for file in directory.iterdir():
        with contextlib.suppress(FileNotFoundError):
            files.append((file.stat().st_mtime, file))
    for _, file in sorted(files)[: max(0, len(files) - num_kept)]:
        file.unlink(missing_ok=True)
