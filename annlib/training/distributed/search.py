"""Trials on Ray Tune, with successive halving, followed from the driver."""

import contextlib
import dataclasses
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.errors import StorageError, TrainingError
from annlib.storage import is_remote
from annlib.training.distributed.cluster import cluster_cpus
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.distributed.shared_storage import shown_to_nodes
from annlib.training.distributed.trial_worker import SIGN_EVERY_S, TrialWorker, halt_flag, sign_of, stop_asked
from annlib.training.trial import TrialRecord
from annlib.training.workload import Workload

logger = logging.getLogger(__name__)

# How often the driver looks for results, in seconds.
POLL_S = 0.1
# How long the driver waits for the workers to leave checkpoints, in seconds. Ray Tune itself gives them 5.
END_TIMEOUT_S = 20.0
# Ray Tune's own loggers would write each result to three more files.
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to do.

    Args:
        configs: configuration of each trial; the first one is trained to its end whatever its scores.
        hparams: what differs between the trials, of each one, for TensorBoard.
        rungs: epochs after which the better trials go on, ascending; the last one is the number of epochs.
        reduction_factor: one of so many goes on.
        larger_is_better: of the monitored metric.
        concurrency: trials at the same time; None takes what there is room for.
        trials_per_process: a worker does so many trials, one after another, then a new process takes its place.
    """

    configs: Sequence[RunConfig]
    hparams: Sequence[Mapping[str, bool | int | float | str]]
    rungs: Sequence[int]
    reduction_factor: int
    larger_is_better: bool
    concurrency: int | None
    trials_per_process: int


def search(
    plan: Plan,
    workload: Workload,
    *,
    on_record: Callable[[TrialRecord], None],
    stop_requested: Callable[[], bool],
) -> None:
    """Does all trials on the connected cluster.

    Args:
        plan: what to do.
        workload: what to train.
        on_record: called with the record of each trial that ends, also of those that ended in an earlier start.
        stop_requested: tells whether the running trials shall leave a checkpoint and end.

    Raises:
        StorageError: a node does not see the directory of the search.
        TrainingError: Ray Tune failed.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    mailbox = Mailbox()
    failures: list[BaseException] = []
    errors: list[str] = []
    storage = plan.configs[0].storage
    try:
        with (
            # Of a search on an object store, all nodes have the same.
            contextlib.nullcontext() if is_remote(storage) else shown_to_nodes(RunDirectory(Path(storage)), mailbox),
            tempfile.TemporaryDirectory(prefix="annlib-ray-", ignore_cleanup_errors=True) as ray_directory,
        ):
            tuner = _tuner(plan, workload, mailbox, ray_directory)
            # Ray Tune's own handler of Ctrl-C, set in the main thread, ends the workers without a checkpoint.
            thread = threading.Thread(target=_fit, args=(tuner, failures), daemon=True)
            thread.start()
            stopped_at = float("inf")
            while thread.is_alive() and time.monotonic() - stopped_at < END_TIMEOUT_S:
                if (errors or stop_requested()) and stopped_at == float("inf"):
                    stopped_at = time.monotonic()
                    mailbox.set("stop")
                errors += _pass_on(mailbox, on_record)
                thread.join(POLL_S)
            errors += _pass_on(mailbox, on_record)
    finally:
        mailbox.clear()
    if errors:
        raise StorageError(errors[0])
    if failures:
        raise TrainingError(f"Ray Tune failed: {failures[0]!r}. Start the same command again: it goes on.")


def _pass_on(mailbox: Mailbox, on_record: Callable[[TrialRecord], None]) -> list[str]:
    """Passes on the records that have come; returns the errors for which the search cannot go on."""
    messages = mailbox.take()
    for message in messages:
        if message["event"] == "trial":
            on_record(TrialRecord.from_json(message["record"]))
    return [message["message"] for message in messages if message["event"] == "error"]


def _fit(tuner: tune.Tuner, failures: list[BaseException]) -> None:
    try:
        tuner.fit()
    except BaseException as error:
        logger.exception("Ray Tune failed")
        failures.append(error)


def _tuner(plan: Plan, workload: Workload, mailbox: Mailbox, ray_directory: str) -> tune.Tuner:
    first = plan.configs[0]
    worker = tune.with_parameters(
        TrialWorker,
        configs=[config.model_dump(mode="json") for config in plan.configs],
        hparams=list(plan.hparams),
        workload=workload.for_workers,
        rungs=list(plan.rungs),
        mailbox=mailbox,
        trials_per_process=plan.trials_per_process,
    )
    resources = {"CPU": first.cpus_per_worker, **({"GPU": 1} if first.use_gpu else {})}
    halving = _Halving(
        time_attr="epoch",
        metric="score",
        mode="max" if plan.larger_is_better else "min",
        mailbox=mailbox,
        max_t=plan.rungs[-1],
        grace_period=plan.rungs[0],
        reduction_factor=plan.reduction_factor,
    )
    return tune.Tuner(
        tune.with_resources(worker, resources),
        param_space={"number": tune.grid_search(list(range(len(plan.configs))))},
        tune_config=tune.TuneConfig(
            scheduler=halving,
            # Without a bound, Ray Tune asks for a new process for each trial that waits.
            max_concurrent_trials=plan.concurrency or max(1, cluster_cpus() // first.cpus_per_worker),
            reuse_actors=plan.trials_per_process > 1,
        ),
        run_config=tune.RunConfig(
            # Ray's own bookkeeping alone: the trials keep their records themselves, and tell them again when resumed.
            storage_path=ray_directory,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
            stop=_StopOnRequest(mailbox),
            # One more: a process that has done its number of trials ends in the next one.
            failure_config=tune.FailureConfig(max_failures=first.max_failures + 1),
            callbacks=[_Tell(mailbox), _EndHung(mailbox, first.worker_timeout_s)],
        ),
    )


class _Halving(ASHAScheduler):  # type: ignore[misc]  # Ray has no types
    """ASHA (Li et al., 2020); the first trial, which the others are compared with, trains to its end.

    A trial that shall stop is told so by a flag, and then ends itself: Ray Tune would not wait long for its last
    evaluation and its model.
    """

    def __init__(self, *, mailbox: Mailbox, **options: Any) -> None:
        super().__init__(**options)
        self._mailbox = mailbox

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision = super().on_trial_result(tune_controller, trial, result)
        number, record = trial.config["number"], result["record"]
        # What an earlier start has decided stays, for the scores come in another order now.
        if decision == TrialScheduler.STOP and number != 0 and record.state == "running":
            self._mailbox.set(halt_flag(record))
        continues: str = TrialScheduler.CONTINUE
        return continues


class _StopOnRequest(tune.Stopper):  # type: ignore[misc]  # Ray has no types
    """Ends all trials when the driver was asked to."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._is_asked = stop_asked(mailbox)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._is_asked()


class _Tell(tune.Callback):  # type: ignore[misc]  # Ray has no types
    """Tells the driver what is known of a trial that has ended. Ray Tune pickles it, and calls it in its own thread."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = _record(trial)
        if record.state in ("running", "replayed"):
            # The user has ended the whole search.
            record = dataclasses.replace(record, state="interrupted")
        self._mailbox.post("trial", record=record.to_json())

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        # Where a process is lost, Ray Tune may know no error yet.
        lines = str(trial.get_pickled_error() or trial.get_error() or "").strip().splitlines()
        reason = lines[-1] if lines else "its process was lost"
        record = dataclasses.replace(_record(trial), state="lost", reason=reason)
        self._mailbox.post("trial", record=record.to_json())


class _EndHung(tune.Callback):  # type: ignore[misc]  # Ray has no types
    """Ends processes that give no sign of life, so that Ray Tune, which would wait for good, starts others."""

    def __init__(self, mailbox: Mailbox, timeout_s: float) -> None:
        self._mailbox = mailbox
        self._timeout_s = timeout_s
        # By process, the last sign and when it came.
        self._signs: dict[str, tuple[Any, float]] = {}
        self._looked_at = float("-inf")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = time.monotonic()
        if now - self._looked_at < SIGN_EVERY_S:
            return
        self._looked_at = now
        for trial in trials:
            actor = trial.temporary_state.ray_actor
            if actor is None:
                continue
            actor_id = actor._actor_id.hex()
            # There is none while it starts.
            sign = self._mailbox.get(sign_of(actor_id))
            known, since = self._signs.get(actor_id, (None, now))
            if sign is None or sign != known:
                self._signs[actor_id] = (sign, now)
            elif now - since >= self._timeout_s:
                logger.warning("trial %d: its process has not answered for %.0f s", trial.config["number"], now - since)
                ray.kill(actor)
                del self._signs[actor_id]


def _record(trial: Any) -> TrialRecord:
    record = trial.last_result.get("record")
    return record if record is not None else TrialRecord(number=trial.config["number"], state="interrupted")
