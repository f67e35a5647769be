"""What each Ray worker runs."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
import os
import socket
import threading
import time
from typing import Any

import ray
import ray.train
from ray.train.v2._internal.execution.context import get_train_context
from ray.util.metrics import Gauge

from annlib.config import RunConfig
from annlib.errors import AnnlibError, ClusterError, TrainingError, last_line
from annlib.garbage import collect_seldom
from annlib.training.context import WorkerContext
from annlib.training.distributed import sharing
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.distributed.shared_storage import SHARED_WITHIN_S
from annlib.training.distributed.worker_log import log_to, open_log
from annlib.training.run_storage import RunStorage, open_run_storage
from annlib.training.storage_news import storage_news
from annlib.training.workload import Workload, receive_workload

logger = logging.getLogger(__name__)

# How often a worker looks whether the others are ready, in seconds.
MEET_EVERY_S = 0.05
# How often rank 0 looks whether it shall stop or save, in seconds.
WATCH_EVERY_S = 0.2
# Rows of the history are sent to the driver this often, in seconds.
ROWS_EVERY_S = 0.3
# While a node is about to be taken away, a checkpoint is written this often, in seconds.
SAVE_WHILE_DRAINING_S = 5.0


def train_loop(arguments: dict[str, Any]) -> None:
    """Runs on each worker; what it tells goes through the mailbox."""
    collect_seldom()
    mailbox = Mailbox(arguments["mailbox"])
    try:
        workload = receive_workload(arguments["workload"])
        config = workload.config_class.model_validate(arguments["config"])
    except AnnlibError as error:
        mailbox.post("error", message=str(error), exit_code=error.exit_code)
        return
    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    # All workers of a group, and no other, have these addresses.
    attempt = mailbox.attempt(hashlib.sha256(os.environ["TF_CONFIG"].split('"task"')[0].encode()).hexdigest())
    node = socket.gethostname()
    place = f"{config.name} attempt {attempt} rank {rank} node {node}"
    mailbox.post("worker", rank=rank, node=node, pid=os.getpid(), attempt=attempt, world_size=world_size)
    mailbox.put(f"node/{attempt}/{rank}", {"node": node})
    try:
        with (
            # Rank 0 writes the files.
            storage_news(lambda line: mailbox.post("storage", rank=0, message=line))
            if rank == 0
            else contextlib.nullcontext(),
            open_run_storage(
                config, patience_s=config.storage_timeout_s, leave_out=("tensorboard/", "logs/", "pictures/")
            ) as storage,
        ):
            patience_s = SHARED_WITHIN_S if attempt == 1 else config.storage_timeout_s
            with log_to(open_log(config, storage.run, mailbox, rank, node, patience_s=patience_s), place):
                if attempt == 1 and rank == 0:
                    # Where its node may not write what the driver's may, that is known before the first epoch; later
                    # on, a storage that cannot be written is waited for.
                    storage.run.create()
                try:
                    result = _train(config, storage, workload, mailbox, attempt)
                except Exception as error:
                    if not isinstance(error, AnnlibError) and not _is_of_a_lost_peer(error):
                        logger.exception("the worker failed")
                    raise
    except AnnlibError as error:
        # A message for the user, not a failure for Ray to try again.
        mailbox.post("error", message=str(error), exit_code=error.exit_code)
    except Exception as error:
        if _is_of_a_lost_peer(error):
            raise
        # A bug, or bad data, which would fail in the same way every time.
        cause = f"rank {rank} on {node} failed: {type(error).__name__}: {last_line(error)}"
        message = f"{cause}. The traceback is in the log of {config.location}."
        mailbox.post("error", message=message, exit_code=TrainingError.exit_code)
    else:
        if rank == 0:
            mailbox.post("result", **result)


def _train(
    config: RunConfig, storage: RunStorage, workload: Workload, mailbox: Mailbox, attempt: int
) -> dict[str, Any]:
    from annlib.training.devices import multi_worker_strategy, prepare_gpus, use_threads
    from annlib.training.worker import train_worker

    place = ray.train.get_context()
    rank, world_size = place.get_world_rank(), place.get_world_size()
    use_threads(config.cpus_per_worker, use_gpu=config.use_gpu)
    has_gpu = prepare_gpus(given=config.use_gpu)
    meet(mailbox, attempt, rank, world_size, timeout_s=max(config.start_timeout_s, config.storage_timeout_s))
    context = WorkerContext(
        rank=rank,
        strategy=multi_worker_strategy(has_gpu=has_gpu),
        load_once=functools.partial(
            sharing.load_once,
            mailbox=mailbox,
            attempt=attempt,
            local_world_size=place.get_local_world_size(),
        ),
        check_storage=storage.check,
        flush_storage=storage.flush,
        fetch_storage=storage.fetch,
    )
    if rank != 0:
        return train_worker(config, workload, context)
    rows, watch = _Rows(mailbox, config.name), _Watch(mailbox)
    context = dataclasses.replace(
        context,
        stop_requested=lambda: watch.stop,
        save_requested=watch.wants_save,
        on_saved=watch.saved,
        on_begin=lambda: mailbox.post("training"),
        on_row=rows.add,
    )
    _gauge("annlib_world_size", "Workers that train together.", config.name).set(world_size)
    _gauge("annlib_restarts", "Times that the workers were started again.", config.name).set(attempt - 1)
    result = train_worker(config, workload, context)
    rows.send()
    return result


def meet(mailbox: Mailbox, attempt: int, rank: int, world_size: int, *, timeout_s: float) -> None:
    """Waits until all workers of a group are ready to make the strategy.

    Making it waits for the others as well, but so that no thread of Python runs meanwhile: Ray Train would take the
    first one that is ready for a process that hangs.

    Raises:
        ClusterError: some were not ready in time.
    """
    mailbox.set(f"ready/{attempt}/{rank}")
    deadline = time.monotonic() + timeout_s
    missing = set(range(world_size))
    while missing := {other for other in missing if not mailbox.is_set(f"ready/{attempt}/{other}")}:
        if time.monotonic() >= deadline:
            nodes = {other: (mailbox.get(f"node/{attempt}/{other}") or {}).get("node") for other in sorted(missing)}
            where = ", ".join(f"rank {other} on {node or 'an unknown node'}" for other, node in nodes.items())
            raise ClusterError(
                f"workers were not ready to train within {timeout_s:g} s: expected all {world_size}, received none of "
                f"{where}. See what they do there, or give a longer --start-timeout-s. Checkpoints are kept."
            )
        time.sleep(MEET_EVERY_S)


def _is_of_a_lost_peer(error: Exception) -> bool:
    """Tells whether another worker was lost in the middle of a collective: then Ray starts all of them again."""
    from tensorflow import errors

    if not isinstance(error, errors.OpError):
        return isinstance(error, ConnectionError)
    # A worker that ends with an error of its own aborts the collectives of the others with the same one, which says so.
    if "ollective" in str(error) or "oordination" in str(error):
        return True
    # A label out of range, no memory, a type that no kernel takes, a file that is not there, an exception in a
    # `tf.py_function`.
    own = (
        errors.InvalidArgumentError,
        errors.ResourceExhaustedError,
        errors.UnimplementedError,
        errors.NotFoundError,
        errors.FailedPreconditionError,
        errors.OutOfRangeError,
        errors.DataLossError,
    )
    return not isinstance(error, own) and "Traceback (most recent call last)" not in str(error)


def _gauge(name: str, description: str, run_name: str) -> Gauge:
    gauge = Gauge(name, description, ("run",))
    gauge.set_default_tags({"run": run_name})
    return gauge


class _Rows:
    """Sends rows of the history to the driver, and shows the newest as Ray metrics; often enough, not each one."""

    def __init__(self, mailbox: Mailbox, run_name: str) -> None:
        self._mailbox = mailbox
        self._rows: list[dict[str, Any]] = []
        self._sent_at = 0.0
        self._gauges = {
            "epoch": _gauge("annlib_epoch", "Completed epochs.", run_name),
            "samples_per_s": _gauge("annlib_samples_per_second", "Samples trained per second.", run_name),
            "loss": _gauge("annlib_loss", "Training loss of the last epoch.", run_name),
        }

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if time.monotonic() - self._sent_at >= ROWS_EVERY_S:
            self.send()

    def send(self) -> None:
        if not self._rows:
            return
        self._mailbox.post("rows", rows=self._rows)
        for name, gauge in self._gauges.items():
            gauge.set(self._rows[-1][name])
        self._rows = []
        self._sent_at = time.monotonic()


class _Watch:
    """Asks in a thread of its own, so that training never waits, whether rank 0 shall stop or save."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.stop = False
        self._mailbox = mailbox
        self._resize = mailbox.num_resizes()
        self._is_about_to_resize, self._has_saved_for_resize = False, False
        self._draining = False
        self._saved_at = float("-inf")
        # Read here, for a thread of ours has no context of Ray Train. `ray.train.get_preemption_info` is a collective
        # of all workers, which only a training loop that meets Python at every step can call.
        self._preemption = get_train_context().preemption_context
        threading.Thread(target=self._run, daemon=True).start()

    def wants_save(self) -> bool:
        """Tells whether a checkpoint shall be written at the next step."""
        if self._is_about_to_resize and not self._has_saved_for_resize:
            return True
        return self._draining and time.monotonic() - self._saved_at >= SAVE_WHILE_DRAINING_S

    def saved(self) -> None:
        """Takes note of a checkpoint."""
        self._saved_at = time.monotonic()
        if self._is_about_to_resize and not self._has_saved_for_resize:
            self._has_saved_for_resize = True
            self._mailbox.set(f"saved/{self._resize}")

    def _run(self) -> None:
        while True:
            self.stop = self.stop or self._mailbox.is_set("stop")
            self._is_about_to_resize = self._is_about_to_resize or self._mailbox.is_set(f"save/{self._resize}")
            info = self._preemption.preemption_info
            if info is not None and not self._draining:
                self._draining = True
                self._mailbox.post("preemption", ranks=info.preempted_ranks, deadline_ms=info.deadline_ms)
            time.sleep(WATCH_EVERY_S)
