"""What happens after each epoch of a run: history, checkpoint, report, stop on request."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras

from annlib.artifacts import RunDirectory
from annlib.training import callback_state, checkpoint
from annlib.training.engine.fit import current_learning_rate
from annlib.training.engine.replicated import sum_over_replicas

# A reader of history.csv sees an epoch this much later at most; epochs of milliseconds are not slowed by the file.
HISTORY_EVERY_S = 0.5


class RunCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the run directory up to date. Rank 0 writes; all ranks report equally often, as Ray Train demands.

    Args:
        run: the run directory.
        progress: where the run starts.
        others: the other callbacks, whose state is saved and restored; this one comes after them.
        num_samples: rows of the training split.
        epochs: the last epoch's number.
        checkpoint_every_s: time between two checkpoints, at least, in seconds.
        keep: checkpoints that stay.
        is_chief: this worker writes the files.
        report: tells Ray Train of a new checkpoint (its metrics, its path on the chief, else None).
        stop_requested: tells whether the user asked to stop.
        on_row: called on the chief with each new row of the history.
    """

    def __init__(
        self,
        run: RunDirectory,
        progress: checkpoint.Progress,
        *,
        others: Sequence[keras.callbacks.Callback],
        num_samples: int,
        epochs: int,
        checkpoint_every_s: float,
        keep: int,
        is_chief: bool,
        report: Callable[[dict[str, Any], Any], None],
        stop_requested: Callable[[], bool],
        on_row: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__()
        self.rows = list(progress.history)
        self.interrupted = False
        self._run = run
        self._start = progress
        self._others = others
        self._num_samples = num_samples
        self._epochs = epochs
        self._checkpoint_every_s = checkpoint_every_s
        self._keep = keep
        self._is_chief = is_chief
        self._report = report
        self._stop_requested = stop_requested
        self._on_row = on_row
        self._history_written = self._checkpointed = time.monotonic()
        self._epoch_started = 0.0
        self._learning_rate = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores the other callbacks, which have just been set to their start."""
        callback_state.restore(self._others, self._start.callbacks, self._start.callback_arrays)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the epoch's clock."""
        self._learning_rate = current_learning_rate(self.model.optimizer)
        self._epoch_started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the epoch to the history, and saves and reports when it is time."""
        seconds = time.perf_counter() - self._epoch_started
        row = {
            "epoch": epoch + 1,
            **{
                name: float(value)
                for name, value in (logs or {}).items()
                # ReduceLROnPlateau adds the rate to the logs as well.
                if not hasattr(value, "__len__") and name != "learning_rate"
            },
            "learning_rate": self._learning_rate,
            "seconds": seconds,
            "samples_per_s": self._num_samples / seconds,
        }
        self.rows.append(row)
        now = time.monotonic()
        wants = [
            epoch + 1 == self._epochs or now - self._checkpointed >= self._checkpoint_every_s,
            self._stop_requested(),
        ]
        save, stop = self._agree(wants)
        if stop and not self.model.stop_training:
            self.interrupted = True
            self.model.stop_training = True
        if self._is_chief:
            self._on_row(row)
            if now - self._history_written >= HISTORY_EVERY_S or save or self.model.stop_training:
                self._run.write_history(self.rows)
                self._history_written = time.monotonic()
        if save or self.model.stop_training:
            self._save_and_report(epoch + 1, row)

    def _save_and_report(self, epoch: int, row: dict[str, Any]) -> None:
        path = None
        if self._is_chief:
            state, arrays = callback_state.collect(self._others)
            progress = checkpoint.Progress(
                epoch=epoch,
                history=self.rows,
                identity=self._start.identity,
                stopped=bool(self.model.stop_training) and not self.interrupted,
                callbacks=state,
                callback_arrays=arrays,
            )
            path = checkpoint.save(self._run.checkpoints, self.model, progress, keep=self._keep)
        self._checkpointed = time.monotonic()
        self._report(row, path)

    def _agree(self, wants: list[bool]) -> list[bool]:
        """Returns what rank 0 wants on all ranks: clocks and file systems differ between workers."""
        strategy = self.model.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            return wants
        votes = sum_over_replicas(strategy, [float(want and self._is_chief) for want in wants])
        return [vote > 0 for vote in votes]
