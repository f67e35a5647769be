"""What happens after each epoch and chunk of steps of a run: history, checkpoint, stop on request."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.training import callback_state, checkpoint
from annlib.training.context import WorkerContext
from annlib.training.engine import metric_state, set_metric_state, validates_in_parts
from annlib.training.engine.collectives import values_of_chief
from annlib.training.engine.optimizers import current_learning_rate
from annlib.training.storage_patience import RETRY_S, StoragePatience

# A reader of history.csv sees an epoch this much later at most; epochs of milliseconds are not slowed by the file.
HISTORY_EVERY_S = 0.5


class Interrupted(Exception):  # the training goes on another time
    """Raised on all ranks at the same step, after a checkpoint: the user asked to stop. The message tells how far."""


class RunCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the run directory up to date. Rank 0 writes, and decides for all ranks.

    Args:
        run: the run directory.
        config: the run's configuration.
        progress: where the run starts.
        others: the other callbacks, whose state is saved and restored; this one comes after them.
        num_samples: rows of the training split.
        storage: bears with storage that is away.
        context: what the worker has around it.
    """

    # What it does after an epoch's last step waits for the validation.
    acts_before_validation = False

    def __init__(
        self,
        run: RunDirectory,
        config: RunConfig,
        progress: checkpoint.Progress,
        *,
        others: Sequence[keras.callbacks.Callback],
        num_samples: int,
        storage: StoragePatience,
        context: WorkerContext,
    ) -> None:
        super().__init__()
        self.rows = list(progress.history)
        self._run = run
        self._config = config
        self._start = progress
        self._others = others
        self._num_samples = num_samples
        self._num_steps = -(-num_samples // config.global_batch_size)
        self._context = context
        self._is_chief = context.rank == 0
        self._has_begun = False
        self._storage = storage
        self._history_written = self._checkpointed = time.monotonic()
        self._epoch = progress.epoch
        self._epoch_started = 0.0
        self._learning_rate = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores the other callbacks, which have just been set to their start, and the metrics of a begun epoch."""
        callback_state.restore(self._others, self._start.callbacks, self._start.callback_arrays)
        if self._start.step:
            set_metric_state(self.model, self._start.metrics)

    def on_train_end(self, logs: Any = None) -> None:
        """Tells of the beginning where no steps were left to do."""
        self._begin()

    def _begin(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._context.on_begin()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the epoch's clock."""
        self._epoch = epoch
        self._learning_rate = current_learning_rate(self.model.optimizer)
        before = self._start.epoch_s if epoch == self._start.epoch else 0.0
        self._epoch_started = time.perf_counter() - before

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves within an epoch when it is time; the engine comes here after each chunk of steps."""
        self._begin()
        if batch + 1 < self._num_steps:
            self._save_when_due(self._epoch, batch + 1, must_save=False)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        """Saves within a validation that takes long; the next start validates again."""
        self._begin()
        if validates_in_parts(self.model):
            self._save_when_due(self._epoch, self._num_steps, must_save=False)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the epoch to the history, and saves when it is time."""
        row = self._row(epoch, logs or {})
        self.rows.append(row)
        if self._is_chief:
            self._context.on_row(row)
            if self._context.end_requested():
                self.model.stop_training = True
            if time.monotonic() - self._history_written >= HISTORY_EVERY_S:
                self._write_history()
        is_last = epoch + 1 == self.params["epochs"] or bool(self.model.stop_training)
        self._save_when_due(epoch + 1, 0, must_save=is_last)

    def _row(self, epoch: int, logs: Mapping[str, Any]) -> dict[str, Any]:
        seconds = time.perf_counter() - self._epoch_started
        return {
            "epoch": epoch + 1,
            **{
                name: float(value)
                for name, value in logs.items()
                # ReduceLROnPlateau adds the rate to the logs as well.
                if not hasattr(value, "__len__") and name != "learning_rate"
            },
            "learning_rate": self._learning_rate,
            "seconds": seconds,
            "samples_per_s": self._num_samples / seconds,
        }

    def _save_when_due(self, epoch: int, step: int, *, must_save: bool) -> None:
        self._context.check_storage()
        due = time.monotonic() - self._checkpointed >= self._config.checkpoint_every_s
        stop, is_asked = self._context.stop_requested(), self._context.save_requested()
        wants = [must_save or due or stop or is_asked, stop and not must_save]
        save, stop = self._agree(wants)
        if save:
            # A collective, which all ranks have to be in.
            metrics = metric_state(self.model) if step else []
            if self._is_chief:
                self._save(epoch, step, metrics, must_save=must_save or stop, flushes=is_asked)
        if stop:
            raise Interrupted(f"epoch {epoch}" + (f" and {step} steps" if step else ""))

    def _save(self, epoch: int, step: int, metrics: list[Any], *, must_save: bool, flushes: bool) -> None:
        state, arrays = callback_state.collect(self._others)
        progress = checkpoint.Progress(
            epoch=epoch,
            step=step,
            epoch_s=time.perf_counter() - self._epoch_started if step else 0.0,
            history=self.rows,
            identity=self._start.identity,
            configuration=self._config.model_dump(mode="json"),
            stopped=bool(self.model.stop_training),
            callbacks=state,
            callback_arrays=arrays,
            metrics=metrics,
        )

        def write() -> None:
            self._run.write_history(self.rows)
            checkpoint.save(self._run.checkpoints, self.model, progress, keep=self._config.keep)

        if must_save:
            self._storage.insist(write)
        elif not self._storage.attempt(write):
            self._checkpointed = time.monotonic() - self._config.checkpoint_every_s + RETRY_S
            return
        if must_save or flushes:
            # Who has asked for it ends this process next.
            self._context.flush_storage()
        self._checkpointed = time.monotonic()
        self._context.on_saved()

    def _write_history(self) -> None:
        self._storage.attempt(lambda: self._run.write_history(self.rows))
        self._history_written = time.monotonic()

    def _agree(self, wants: list[bool]) -> list[bool]:
        """Returns what rank 0 wants on all ranks: clocks and file systems differ between workers."""
        votes = values_of_chief(self.model.distribute_strategy, wants, is_chief=self._is_chief)
        return [vote > 0 for vote in votes]
