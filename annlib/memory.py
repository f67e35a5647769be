"""Memory that this process may take, and has taken."""

import os
import resource
from pathlib import Path

# Linux: the limit of the container, of control groups version 2 and 1.
_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit_bytes() -> int:
    """Returns the memory of the container, or of the machine where that is less, in bytes."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _LIMIT_FILES:
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):
            # No control groups of this version, or "max".
            continue
    return min(limits)


def peak_memory_bytes() -> int:
    """Returns the most memory that this process has had at once, in bytes."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        # macOS, where it is in bytes.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not `getrusage`, which counts what the parent had when it started this process.
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
