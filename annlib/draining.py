"""Leaving a node that is about to go: what a pod's preStop hook, or a person before a reboot, runs there."""

import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import ray
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
from ray.exceptions import AuthenticationError

from annlib.errors import ClusterError
from annlib.training.distributed import check_address, running_address

logger = logging.getLogger(__name__)

# How often to look whether all have left, in seconds.
LOOK_EVERY_S = 0.5
# How long the head may take to answer, in seconds.
HEAD_TIMEOUT_S = 5.0
# Ray Train ends the workers after the deadline that Ray is told, which is this much before the real one, in seconds.
LEAVE_S = 8.0


def drain(*, deadline_s: int) -> list[str]:
    """Tells Ray that this machine's node goes away, and the drivers on it to stop; waits until all have left.

    Training saves at its next step, and goes on here until shortly before the deadline; Ray Train then starts the
    workers again elsewhere. A driver, such as `jobs/train.py`, ends after its checkpoint.

    Args:
        deadline_s: seconds until the node is gone.

    Returns:
        What is still there after the deadline; empty when all have left in time, and where Ray has ended before, as at
        the end of a job that had the cluster for itself.

    Raises:
        ClusterError: RAY_ADDRESS or the token is wrong, or Ray refuses to drain the node.
    """
    deadline = time.monotonic() + deadline_s
    address = _connect()
    if address is None:
        return []
    drivers = _drivers()
    for pid in drivers:
        # That of another user ends with its workers.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGTERM)
    accepted, reason = ray._raylet.GcsClient(address=address).drain_node(
        ray.get_runtime_context().get_node_id(),
        DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION,
        "jobs/drain.py",
        int(1000 * (time.time() + max(deadline_s - LEAVE_S, 1.0))),
    )
    if not accepted:
        raise ClusterError(f"Ray does not drain this node: {reason}. Try again, or stop the node without.")
    while (left := _left(drivers, address)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return left


def _connect() -> str | None:
    """Connects with the cluster of this node, and returns its address; None where there is none any more."""
    address = os.environ.get("RAY_ADDRESS", "auto")
    if address in ("auto", "local"):
        address = running_address() or ""
    if not address:
        logger.warning("no Ray node runs on this machine: there is nothing to leave")
        return None
    try:
        # The head goes first where a job had the cluster for itself.
        try:
            check_address(address, timeout_s=HEAD_TIMEOUT_S)
        except OSError:
            logger.warning("the head at %s does not answer: there is nothing to leave", address)
            return None
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, AuthenticationError):
        raise ClusterError(
            f"no node of a cluster at {address} runs on this machine, or it wants another token: expected one that "
            "`ray start` has started, its token where it wants one, and HOST:PORT of its head where RAY_ADDRESS is "
            "set. Run this there, before Ray ends."
        ) from None
    return address


def _drivers() -> list[int]:
    """Returns the processes on this machine that drive a job, without this one and Ray's own."""
    own, address = os.getpid(), ray.util.get_node_ip_address()
    return [
        job["DriverPid"]
        for job in ray._private.state.jobs()
        if not job["IsDead"]
        and job["DriverIPAddress"] == address
        and job["DriverPid"] != own
        # Its dashboard's agent is a driver, too, after the submission of a job; the node ends with it.
        and "/ray/dashboard/" not in job["Entrypoint"]
    ]


def _left(drivers: list[int], address: str) -> list[str]:
    """Returns a line for each worker of Ray Train on this cluster's node, and for each driver that still runs."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            command = _command(name)
            is_worker = command.startswith("ray::RayTrainWorker") and f"={address} " in _command(_parent(name))
            # A process that has ended and waits for its parent has none.
            if command and (int(name) in drivers or is_worker):
                found.append(f"process {name}: {command[:100]}")
    return found


def _command(pid: str) -> str:
    content = Path(f"/proc/{pid}/cmdline").read_bytes()
    return content.replace(b"\0", b" ").decode(errors="replace").strip()


def _parent(pid: str) -> str:
    """Returns the process' parent: of a worker, the raylet that has `--gcs-address=HOST:PORT` in its command."""
    # The name of the program, in parentheses, may hold anything.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
