"""One trial of a search: a run in this process that asks at some epochs whether to go on, and what is kept of it."""

import contextlib
import dataclasses
import gc
import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self

from annlib.artifacts import RunDirectory, write_atomically
from annlib.config import RunConfig
from annlib.errors import AnnlibError, CheckpointError, DataError, StorageError
from annlib.reporting.tensorboard import write_hparams
from annlib.training.driver import log_to
from annlib.training.final_metrics import final_metrics
from annlib.training.run_storage import open_run_storage
from annlib.training.workload import Workload

if TYPE_CHECKING:
    from annlib.training.checkpoint import Progress

logger = logging.getLogger(__name__)

State = Literal["running", "replayed", "finished", "stopped", "failed", "interrupted", "lost"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """What is known of a trial.

    Args:
        number: the trial's number, from 0.
        state: "running" up to a rung, where the scheduler decides; "replayed" up to one that it has passed before;
            "stopped" early by the scheduler; "failed" by itself; "interrupted" with a checkpoint; "lost" with its
            process, so that the next start tries again.
        scores: the monitored metric on the validation split, by epoch, as far as the scheduler was asked; the last one
            is that of the trained model.
        epochs: completed epochs.
        seconds: time that the trial took in its process.
        reason: why it failed.
        process: node and process id where it was done.
    """

    number: int
    state: State
    scores: Mapping[int, float] = dataclasses.field(default_factory=dict)
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    process: str = ""

    @property
    def is_final(self) -> bool:
        """Nothing is left to do."""
        return self.state in ("finished", "stopped", "failed")

    def to_json(self) -> str:
        """Returns what `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Returns the record; ValueError, TypeError or KeyError where the text holds none."""
        values = json.loads(text)
        return cls(**{**values, "scores": {int(epoch): score for epoch, score in values["scores"].items()}})

    @property
    def score(self) -> float | None:
        """The newest score; None of a trial that failed or has none yet, and where it is not finite."""
        newest = list(self.scores.values())[-1] if self.scores and self.state != "failed" else math.nan
        return newest if math.isfinite(newest) else None


def read_record(run: RunDirectory) -> TrialRecord | None:
    """Returns the record of a trial that has ended; None of another one.

    Raises:
        StorageError: the file is damaged.
    """
    try:
        return TrialRecord.from_json(run.trial.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StorageError(
            f"{run.trial} cannot be read: expected the record of a trial, received {error}. Remove it to do the trial "
            "again."
        ) from None


def run_trial(
    number: int,
    config: RunConfig,
    workload: Workload,
    *,
    hparams: Mapping[str, bool | int | float | str],
    rungs: Sequence[int],
    go_on: Callable[[TrialRecord], bool],
    stop_requested: Callable[[], bool],
) -> TrialRecord:
    """Does what is left of a trial, and returns its record. A trial that has ended only tells its scores again.

    Args:
        number: the trial's number.
        config: the trial's configuration; `monitor` is the metric of its scores, on the validation split.
        workload: what to train.
        hparams: what the search varies, for TensorBoard.
        rungs: epochs after which to ask, ascending.
        go_on: gets the record so far at each rung, and tells whether to go on; of a "replayed" one it is not asked, for
            the trial has gone on there.
        stop_requested: tells whether to leave a checkpoint at the next step.

    Raises:
        AnnlibError, OSError: files cannot be read or written here, which the trial is not to blame for.
    """
    started = time.perf_counter()
    with open_run_storage(config, patience_s=config.storage_timeout_s) as storage:
        record = read_record(storage.run)
        if record is not None:
            _tell_again(record, rungs, go_on)
            return record
        storage.run.create()
        write_atomically(storage.run.config, config.to_yaml().encode())
        with log_to(storage.run.log, place=config.name):
            asking = _Asking(number, config, rungs, go_on, stop_requested)
            try:
                record = _train(config, workload, storage.run, hparams, asking, storage.flush)
            except Exception as error:
                if _is_of_the_place(error):
                    raise
                # A combination that cannot work, or has no room: that is what a search finds out.
                logger.exception("the trial failed")
                reason = " ".join(str(error).split()) if isinstance(error, AnnlibError) else f"{error!r}"
                record = dataclasses.replace(asking.record, state="failed", reason=reason[:500])
                _write_row(config, storage.run, hparams, {}, has_failed=True)
        process = f"{socket.gethostname()}:{os.getpid()}"
        record = dataclasses.replace(record, seconds=time.perf_counter() - started, process=process)
        if record.is_final:
            write_atomically(storage.run.trial, record.to_json().encode())
            storage.flush()
    return record


def _is_of_the_place(error: Exception) -> bool:
    """Tells whether an error comes from where the trial is done, such as a file that a node lacks, and may pass."""
    kinds = (StorageError, CheckpointError, DataError, OSError)
    # Of code of the user's own, the cause stands behind the line that is shown.
    return isinstance(error, kinds) or isinstance(error.__cause__, OSError)


def _write_row(
    config: RunConfig,
    run: RunDirectory,
    hparams: Mapping[str, bool | int | float | str],
    metrics: Mapping[str, float],
    *,
    has_failed: bool,
) -> None:
    """Writes the trial's row of TensorBoard's table, where each search has a trial of this name."""
    with contextlib.suppress(FileNotFoundError):  # of an earlier start that came as far as this
        for old in (run.tensorboard / "hparams").iterdir():
            old.unlink()
    name = "/".join(config.location.rsplit("/", 2)[1:])
    write_hparams(run.tensorboard / "hparams", hparams=hparams, metrics=metrics, run_name=name, has_failed=has_failed)


def _tell_again(record: TrialRecord, rungs: Sequence[int], go_on: Callable[[TrialRecord], bool]) -> None:
    """Tells a new scheduler what the one of an earlier start was told, and has decided on."""
    told: dict[int, float] = {}
    for epoch, score in record.scores.items():
        told[epoch] = score
        if epoch in rungs:
            go_on(dataclasses.replace(record, state="replayed", scores=dict(told), epochs=epoch))


class _Asking:
    """Keeps the scores of a trial that trains, and asks at its rungs."""

    def __init__(
        self,
        number: int,
        config: RunConfig,
        rungs: Sequence[int],
        go_on: Callable[[TrialRecord], bool],
        stop_requested: Callable[[], bool],
    ) -> None:
        self.record = TrialRecord(number=number, state="running")
        self.is_stopped = False
        self.stop_requested = stop_requested
        self._metric = config.monitor
        self._rungs = rungs
        self._go_on = go_on
        self._started = time.perf_counter()

    def see_again(self, progress: "Progress") -> None:
        """Takes the history of an earlier start. What was decided there stays, whatever the other trials do now."""
        for row in progress.history:
            # Where it has another row after it, the trial went on; the last one may still wait for the decision.
            self.see(row, is_replayed=progress.stopped or row is not progress.history[-1])
        # It was stopped, and lost before it had written its record: nothing is left to train.
        self.is_stopped = self.is_stopped or (progress.stopped and progress.epoch in self._rungs)

    def see(self, row: Mapping[str, Any], *, is_replayed: bool = False) -> None:
        """Takes a row of the history."""
        epoch = int(row["epoch"])
        self.record = dataclasses.replace(self.record, epochs=epoch, seconds=time.perf_counter() - self._started)
        if epoch in self._rungs and not self.is_stopped:
            self.record = dataclasses.replace(self.record, scores={**self.record.scores, epoch: row[self._metric]})
            state: State = "replayed" if is_replayed else "running"
            goes_on = self._go_on(dataclasses.replace(self.record, state=state))
            self.is_stopped = not (goes_on or is_replayed)


def _train(
    config: RunConfig,
    workload: Workload,
    run: RunDirectory,
    hparams: Mapping[str, bool | int | float | str],
    asking: _Asking,
    flush: Callable[[], None],
) -> TrialRecord:
    import keras
    import tensorflow as tf

    from annlib.training import checkpoint
    from annlib.training.context import WorkerContext
    from annlib.training.worker import train_worker

    before, _ = checkpoint.find_resumable(run.checkpoints, checkpoint.identity(config, workload.load(config)))
    if before is not None:
        asking.see_again(before)
    context = WorkerContext(
        rank=0,
        strategy=tf.distribute.get_strategy(),
        stop_requested=asking.stop_requested,
        end_requested=lambda: asking.is_stopped,
        flush_storage=flush,
        on_row=asking.see,
    )
    try:
        result = train_worker(config, workload, context, is_trial=True)
    finally:
        # The next trial of this process shall find neither the memory nor the layers' names of this one in use.
        keras.utils.clear_session()
        gc.collect()
    if result["interrupted"]:
        return dataclasses.replace(asking.record, state="interrupted")
    write_atomically(run.metrics, json.dumps(final_metrics(config, result), indent=2).encode())
    validation = result["metrics"]["validation"]
    finals = {f"validation/{name}": value for name, value in validation.items()}
    score = float(validation[config.monitor.removeprefix("val_")])
    is_finite = math.isfinite(score)
    _write_row(config, run, hparams, finals, has_failed=not is_finite)
    state: State = "stopped" if asking.is_stopped else "finished"
    return dataclasses.replace(
        asking.record,
        state=state if is_finite else "failed",
        reason="" if is_finite else f"{config.monitor} became {score}.",
        scores={**asking.record.scores, result["epochs"]: score},
        epochs=result["epochs"],
    )
