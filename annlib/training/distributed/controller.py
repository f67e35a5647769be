"""What runs in Ray Train's controller: notes of failures, a checkpoint before a resize, and the end on request."""

import logging
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.train import UserCallback
from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError

# Not public, but what `RunConfig.callbacks` takes beside `UserCallback`; nothing public is called before a resize, or
# at the start.
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback

from annlib.training.distributed.mailbox import Mailbox

logger = logging.getLogger(__name__)

_NO_HEARTBEATS = "stopped sending heartbeats"
# How long a resize waits for the workers' checkpoint, in seconds. Without one, steps since the last one are repeated.
SAVE_TIMEOUT_S = 15.0
# How often the controller looks whether it shall end, in seconds.
WATCH_EVERY_S = 0.2


class NoteFailures(UserCallback):  # type: ignore[misc]  # Ray has no types that mypy can use
    """Tells the driver why the workers are started again."""

    def __init__(self, mailbox_name: str) -> None:
        self._mailbox = Mailbox(mailbox_name)

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called by Ray Train after workers failed."""
        ranks, cause = _describe_ranks(worker_exceptions)
        self._mailbox.post("failure", ranks=ranks, cause=cause)


class SaveBeforeResize(WorkerGroupCallback):  # type: ignore[misc]
    """Lets the workers save before Ray Train ends them to start more or fewer."""

    def __init__(self, mailbox_name: str) -> None:
        self._mailbox = Mailbox(mailbox_name)

    def before_worker_group_shutdown(self, worker_group: Any) -> None:
        """Called by Ray Train, also when the workers have failed or finished."""
        status = worker_group.get_latest_poll_status()
        if status is None or status.errors or status.finished:
            return
        preemption = status.get_preemption_info()
        if preemption is not None:
            # The workers have saved every few seconds since the notice, and the node may be gone any moment.
            ranks = preemption.preempted_ranks
            cause = f"the node of rank {', '.join(map(str, ranks))} is taken away"
            self._mailbox.post("resize", cause=cause, ranks=ranks)
            return
        number = self._mailbox.num_resizes()
        self._mailbox.set(f"save/{number}")
        deadline = time.monotonic() + SAVE_TIMEOUT_S
        while not self._mailbox.is_set(f"saved/{number}") and time.monotonic() < deadline:
            time.sleep(0.1)
        # The next workers wait for the next one.
        self._mailbox.put("resizes", {"count": number + 1})
        self._mailbox.post("resize", cause="nodes came or went", ranks=[])


class EndOnRequest(ControllerCallback):  # type: ignore[misc]
    """Ends the workers, and then the controller itself, when the driver asks for it.

    `fit` has returned before the driver disconnects: a thread that still waits for an answer then ends the process.
    """

    def __init__(self, mailbox_name: str) -> None:
        self._mailbox = Mailbox(mailbox_name)

    def after_controller_start(self, train_run_context: Any) -> None:
        """Called by Ray Train before anything else."""
        # What Ray Train itself does on Ctrl-C.
        controller = ray.get_runtime_context().current_actor
        threading.Thread(target=self._watch, args=(controller,), daemon=True).start()

    def _watch(self, controller: Any) -> None:
        while not self._mailbox.is_set("end"):
            time.sleep(WATCH_EVERY_S)
        controller.abort.remote()


def describe(failures: list[BaseException]) -> str:
    """Returns the first failed worker's error in one line, without the traceback, which is in the log."""
    if not failures:
        return "the Ray workers left no result"
    by_rank = getattr(failures[0], "worker_failures", None)
    if by_rank:
        return _describe_ranks(by_rank)[1]
    return f"Ray Train failed: {type(failures[0]).__name__}: {' '.join(str(failures[0]).split())[:400]}"


def _describe_ranks(errors: Mapping[int, BaseException]) -> tuple[list[int], str]:
    """Returns which ranks failed first, and in one line how."""
    # A lost process is the cause; the other ranks' errors are its consequences.
    for kind, is_kind in (("was lost", _is_lost), ("does not answer", _hangs)):
        ranks = sorted(rank for rank, error in errors.items() if is_kind(error))
        if ranks:
            return ranks, f"the process of rank {', '.join(map(str, ranks))} {kind}"
    silent = sorted({rank for error in errors.values() for rank in _silent_ranks(str(error))})
    if silent:
        return silent, f"the process of rank {', '.join(map(str, silent))} does not answer"
    rank, error = min(errors.items())
    if "Collective" in str(error):
        # Met before anybody has seen which process is gone.
        return [rank], f"rank {rank} lost its connection to another worker"
    # Ray's message of a worker's exception is the traceback, whose last line is the exception itself.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return [rank], f"rank {rank} failed: {lines[-1] if lines else type(error).__name__}"


def _silent_ranks(error: str) -> list[int]:
    """Returns the ranks that TensorFlow's coordination service, which runs on rank 0, or its clients miss."""
    if _NO_HEARTBEATS in error:
        # The list ends with the line after the last task.
        tasks = error.split(_NO_HEARTBEATS)[1].split("crashed")[0]
        return [int(rank) for rank in re.findall(r"/task:(\d+)", tasks)]
    return [0] if "CoordinationService/Heartbeat" in error else []


def _is_lost(error: BaseException) -> bool:
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


def _hangs(error: BaseException) -> bool:
    return isinstance(error, WorkerHealthCheckTimeoutError)
