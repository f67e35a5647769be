"""Runs `train_worker` on Ray Train's workers, and follows them from the driver."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import ray
import ray.train
from ray.train import FailureConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.errors import AnnlibError, ClusterError, TrainingError
from annlib.training.distributed.controller import EndOnRequest, NoteFailures, SaveBeforeResize, describe
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.distributed.shared_storage import shown_to_nodes
from annlib.training.distributed.worker_loop import train_loop
from annlib.training.workload import Workload

logger = logging.getLogger(__name__)

# How often the driver looks for messages, in seconds.
POLL_S = 0.2
# A worker that failed by itself leaves the others waiting for it; after this time they are ended.
ERROR_GRACE_S = 3.0
# When workers have not started after this time, the user is told what they wait for, in seconds.
TELL_WAIT_S = 15.0
# How long the driver waits until they are ended, in seconds.
END_TIMEOUT_S = 20.0
# How often Ray Train looks for nodes that have come, in seconds; the default is 60 s.
RESIZE_EVERY_S = 10.0


def train(
    config: RunConfig,
    workload: Workload,
    *,
    on_message: Callable[[dict[str, Any]], None],
    stop_requested: Callable[[], bool],
) -> dict[str, Any]:
    """Trains on the connected cluster.

    Args:
        config: a configuration with workers.
        workload: what to train.
        on_message: called with what workers and Ray Train tell: {"event": "worker", "training", "rows", "failure",
            "preemption" or "resize", ...}.
        stop_requested: tells whether the workers shall stop at the next step, with a checkpoint.

    Returns:
        What `train_worker` returns on rank 0; that it is interrupted, where it was stopped before the workers trained.

    Raises:
        AnnlibError: as the workers raised it.
        ClusterError: the workers could not be started in time.
        TrainingError: workers were lost too often, or failed in another way.
    """
    run = RunDirectory(config.run_path)
    mailbox = Mailbox()
    failures: list[BaseException] = []
    is_followed = threading.Event()
    is_followed.set()
    try:
        with (
            shown_to_nodes(run, mailbox),
            tempfile.TemporaryDirectory(prefix="annlib-ray-", ignore_cleanup_errors=True) as ray_directory,
        ):
            trainer = _trainer(config, workload, mailbox, ray_directory)
            # Ray's own handler of Ctrl-C, set by a `fit` in the main thread, ends the workers without a checkpoint.
            thread = threading.Thread(target=_fit, args=(trainer, failures, is_followed), daemon=True)
            thread.start()
            try:
                result = _follow(thread, mailbox, config, on_message, stop_requested)
            finally:
                is_followed.clear()
                mailbox.set("end")
                thread.join(END_TIMEOUT_S)
    finally:
        mailbox.clear()
    if result is None:
        raise TrainingError(f"{describe(failures)}. The whole log is in {config.location}.")
    if result["event"] == "error":
        error = AnnlibError(result["message"])
        error.exit_code = result["exit_code"]
        raise error
    return result


def _trainer(config: RunConfig, workload: Workload, mailbox: Mailbox, ray_directory: str) -> TensorflowTrainer:
    fewest, most = config.num_workers
    return TensorflowTrainer(
        train_loop,
        train_loop_config={
            "config": config.model_dump(mode="json"),
            "workload": workload.for_workers,
            "mailbox": mailbox.name,
        },
        scaling_config=ScalingConfig(
            num_workers=most if fewest == most else (fewest, most),
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if config.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            name=config.name,
            # Ray's own bookkeeping alone: the workers write annlib's checkpoints, and resume from them, by themselves.
            # Reporting them to Ray would make training wait for its queue, and stop with the storage.
            storage_path=ray_directory,
            failure_config=FailureConfig(max_failures=config.max_failures),
            callbacks=[EndOnRequest(mailbox.name), NoteFailures(mailbox.name), SaveBeforeResize(mailbox.name)],
        ),
    )


def _fit(trainer: TensorflowTrainer, failures: list[BaseException], is_followed: threading.Event) -> None:
    try:
        trainer.fit()
    except BaseException as error:
        # After a worker's own error nobody waits for the others.
        if is_followed.is_set():
            logger.exception("Ray Train failed")
            failures.append(error)


def _follow(
    thread: threading.Thread,
    mailbox: Mailbox,
    config: RunConfig,
    on_message: Callable[[dict[str, Any]], None],
    stop_requested: Callable[[], bool],
) -> dict[str, Any] | None:
    """Passes messages on until the workers are done; returns the result or the first error, None without either."""
    result: dict[str, Any] | None = None
    error_at = float("inf")
    waiting_since = time.monotonic()
    phase: Literal["waiting", "starting", "training"] = "waiting"
    is_stopping, has_told = False, False
    while True:
        is_done = not thread.is_alive()
        for message in mailbox.take():
            if message["event"] in ("result", "error"):
                if result is None or result["event"] != "error":
                    result = message
                error_at = min(error_at, time.monotonic()) if message["event"] == "error" else error_at
            else:
                if message["event"] in ("failure", "resize"):
                    waiting_since = waiting_since if phase == "waiting" else time.monotonic()
                    phase = "waiting"
                elif message["event"] == "training":
                    phase = "training"
                elif message["event"] == "worker" and phase == "waiting":
                    phase = "starting"
                has_told = has_told and phase == "waiting"
                on_message(message)
        if is_done or time.monotonic() - error_at > ERROR_GRACE_S:
            return result
        waited_s = time.monotonic() - waiting_since if phase == "waiting" else 0.0
        if waited_s > config.start_timeout_s:
            raise ClusterError(
                f"the workers did not start within {config.start_timeout_s:g} s: expected {_room(config)}. Add "
                "nodes, give a smaller --num-workers or a range such as 1:4, or a longer --start-timeout-s. "
                "Checkpoints are kept."
            )
        if waited_s > TELL_WAIT_S and not has_told:
            has_told = True
            on_message({"event": "waiting", "room": _room(config)})
        if stop_requested():
            if phase != "training":
                # The last checkpoint has all there is, also where workers were lost while they stopped; those that
                # start would take longer than a pod is given.
                return {"event": "result", "interrupted": True, "progress": None}
            if not is_stopping:
                is_stopping = True
                mailbox.set("stop")
        thread.join(POLL_S)


def _room(config: RunConfig) -> str:
    """Returns what the workers need and what the cluster has."""
    resources = ray.cluster_resources()
    fewest = config.num_workers[0]
    kind = "GPU" if config.use_gpu else "CPU"
    needed = fewest if config.use_gpu else fewest * config.cpus_per_worker
    nodes = ", ".join(sorted(node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]))
    there = resources.get(kind, 0)
    # The workers have their places when their group has them; then they import TensorFlow.
    states = {group["state"] for group in ray.util.placement_group_table().values()}
    is_pending = bool(states - {"CREATED", "REMOVED"})
    reason = "too few" if there < needed else "in use by others" if is_pending else "and the workers import TensorFlow"
    return f"{needed} free {kind}s for {fewest} workers, received {there:g} {kind}s in all on {nodes}, {reason}"
