"""The Ray cluster: the running one, or one of this machine for the time of a run."""

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray.exceptions import AuthenticationError

from annlib.config import RunConfig
from annlib.errors import ClusterError
from annlib.training.driver import EXIT_SIGNAL

# What Ray Train reads in the driver and passes on to its controller. A user's own values stay.
_SETTINGS = {
    # Its controller looks at the workers this often: with the default of 2 s no run takes less than a multiple of it.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    # After the loss of a node a smaller group of workers is tried only when this has passed; the default is 60 s. Where
    # nodes are still coming, Ray Train tries again until they are there.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
    # How often it asks which nodes are about to be taken away; the default of 5 s is a sixth of a usual notice.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
}

# How long the head of a cluster may take to answer, in seconds.
CONNECT_TIMEOUT_S = 20.0
# What Ray counts of the node that keeps the cluster's state.
_HEAD = "node:__internal_head__"
_LOOPBACK = "127.0.0.1"


@contextlib.contextmanager
def cluster(config: RunConfig, *, flag: str = "--num-workers") -> Iterator[None]:
    """Connects as `connection` does, for the workers of a run; `flag` is what the user gives to have fewer of them."""
    with connection(
        num_workers=config.num_workers[0],
        cpus_per_worker=config.cpus_per_worker,
        use_gpu=config.use_gpu,
        worker_timeout_s=config.worker_timeout_s,
        flag=flag,
    ):
        yield


@contextlib.contextmanager
def connection(
    *,
    num_workers: int,
    cpus_per_worker: int = 1,
    use_gpu: bool = False,
    worker_timeout_s: float | None = None,
    flag: str = "--num-workers",
) -> Iterator[None]:
    """Connects to the running Ray cluster, or starts one in this machine, and checks that it is large enough.

    Args:
        num_workers: the fewest workers that are of use.
        cpus_per_worker: CPUs of each.
        use_gpu: True where each needs a GPU.
        worker_timeout_s: seconds after which Ray Train counts a worker that does not answer as lost; None without it.
        flag: what the user gives to have fewer workers.

    Raises:
        ClusterError: there is no cluster at the given address, or it has too few CPUs or GPUs for the workers.
    """
    started = not ray.is_initialized()
    if started:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        # A stopped or cut-off process does not answer; the default of 600 s would be the time that its run stands.
        if worker_timeout_s is not None:
            os.environ.setdefault("RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S", str(worker_timeout_s))
        _initialize()
    try:
        _check_size(num_workers, cpus_per_worker, use_gpu, flag)
        yield
    finally:
        if started:
            ray.shutdown()


def _initialize() -> None:
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
    }
    # A job's own PYTHONPATH, which this one holds, would be a conflict otherwise.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    given = os.environ.get("RAY_ADDRESS")
    address = given or running_address()
    if address not in (None, "local"):
        try:
            if address != "auto" and "://" not in address:
                check_address(address)
            _connect(address=address, **options)
        except (OSError, ValueError, RuntimeError, AuthenticationError) as error:
            # One of its own in the place of one that lets nobody in would hide that.
            raise _refusal(given, error) from None
        return
    try:
        # Loopback and no dashboard: nobody else shall reach what runs for this command only.
        with (
            # In the place of 127.0.0.1 Ray would take the address of a network interface, and listen on all of them.
            _replaced("resolve_ip_for_localhost", lambda host: host),
            # Ray's processes have a session of their own: a signal to all of a command's processes, as of a terminal
            # that is closed or of `timeout`, is for the command, and Ray would end before the workers have saved.
            _replaced("ConsolePopen", functools.partial(services.ConsolePopen, start_new_session=True)),
        ):
            _connect(address="local", include_dashboard=False, _node_ip_address=_LOOPBACK, **options)
    except Exception as error:  # Ray raises no narrower kind
        raise ClusterError(
            f"Ray did not start on this machine: {error}. Start the command again when the machine is less busy, or "
            "leave --num-workers out to do without Ray."
        ) from error


def _connect(**options: Any) -> None:
    """Calls `ray.init`, whose own handler of SIGTERM would end the process with its number, 15, as the exit code."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except SystemExit:
        sys.exit(EXIT_SIGNAL + signal.SIGTERM)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _end if before == signal.SIG_DFL else before)


def _end(signum: int, frame: Any) -> None:
    sys.exit(EXIT_SIGNAL + signum)


def running_address() -> str | None:
    """Returns the address of a Ray that was started on this machine for others to use, by `ray start` first of all."""
    found = services.find_gcs_addresses()
    started = services.find_bootstrap_address(None)
    # The others on the loopback interface are those of other commands, as below, and end with them.
    shared = [address for address in sorted(found) if address == started or not address.startswith(f"{_LOOPBACK}:")]
    return started if started in shared else next(iter(shared), None)


@contextlib.contextmanager
def _replaced(name: str, value: Any) -> Iterator[None]:
    """Lets Ray use something else meanwhile in the place of a function or class of its `services`."""
    before = getattr(services, name)
    setattr(services, name, value)
    try:
        yield
    finally:
        setattr(services, name, before)


def _refusal(address: str | None, error: Exception) -> ClusterError:
    is_missing, is_malformed = isinstance(error, AuthenticationError), isinstance(error, ValueError)
    received = "no token here" if is_missing else "no HOST:PORT" if is_malformed else "no answer"
    if "ersion mismatch" in str(error):
        # Ray names both, and what to do.
        return ClusterError(
            f"the Ray cluster {address or 'on this machine'} does not fit: expected this command's versions of Ray and "
            f"Python, received another: {' '.join(str(error).split())[:400]} Install the same, or set "
            "RAY_ADDRESS=local."
        )
    if not address:
        return ClusterError(
            "the Ray cluster that runs on this machine does not let this command in: expected an answer and, where it "
            f"wants one, RAY_AUTH_MODE=token with its token, received {received}. Copy its ~/.ray/auth_token, or set "
            "RAY_ADDRESS=local for a Ray of the command's own."
        )
    return ClusterError(
        f"no Ray cluster answers at {address}: expected a running one at RAY_ADDRESS and, where it wants one, "
        f"RAY_AUTH_MODE=token with its token, received {received}. Start it with `ray start --head`, copy its "
        "~/.ray/auth_token, correct RAY_ADDRESS, or unset it."
    )


def check_address(address: str, *, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
    """Raises OSError where nobody listens there, which Ray itself would find out after minutes, or ValueError."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s).close()


def cluster_cpus() -> int:
    """Returns the number of CPUs of the connected cluster, 0 while it has none."""
    return int(ray.cluster_resources().get("CPU", 0))


def _check_size(fewest: int, cpus_per_worker: int, use_gpu: bool, flag: str) -> None:
    if _waits_for_nodes():
        return
    resources = ray.cluster_resources()
    needs = {"CPU": fewest * cpus_per_worker, "GPU": fewest if use_gpu else 0}
    for kind, needed in needs.items():
        available = int(resources.get(kind, 0))
        if needed > available:
            raise ClusterError(
                f"the Ray cluster has {available} {kind}s: {fewest} workers need {needed}. Give a smaller "
                f"{flag}, or add nodes to the cluster."
            )


def _waits_for_nodes() -> bool:
    """Tells whether the head has no CPUs, as on Kubernetes: nodes come when they come then, and `train` waits."""
    heads = [node["Resources"] for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"]]
    return any("CPU" not in resources for resources in heads)
