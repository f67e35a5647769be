"""The best epoch's model, kept beside the last checkpoint."""

import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from annlib.artifacts import replacing, write_atomically
from annlib.training.storage_patience import StoragePatience

FILE = "best.keras"


class BestCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Keeps the model of the epoch with the best monitored value in `checkpoints/best.keras`.

    An epoch may take milliseconds and writing a model longer than that, so the best weights are held in memory and
    written on a time budget, and at the end.

    Args:
        directory: where the file goes.
        monitor: name in the epoch's logs.
        mode: "min" or "max".
        every_s: time between two writes, at least, in seconds.
        storage: bears with storage that is away.
        is_chief: this worker writes the file.
    """

    def __init__(
        self, directory: Path, *, monitor: str, mode: str, every_s: float, storage: StoragePatience, is_chief: bool
    ) -> None:
        super().__init__()
        self.best: float | None = None
        self.best_epoch = 0
        self.best_weights: list[np.ndarray[Any, Any]] = []
        self._directory = directory
        self._monitor = monitor
        self._sign = -1.0 if mode == "max" else 1.0
        self._every_s = every_s
        self._storage = storage
        self._is_chief = is_chief
        # Not restored with the rest: what a lost process had not written is written by the next one.
        self._written_epoch = 0
        self._written_at = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Takes the weights when the epoch is the best one so far."""
        value = (logs or {}).get(self._monitor)
        if value is not None and (self.best is None or self._sign * value < self._sign * self.best):
            self.best, self.best_epoch = float(value), epoch + 1
            if self._is_chief:
                self.best_weights = self.model.get_weights()
        if self._is_unwritten() and time.monotonic() - self._written_at >= self._every_s:
            self._storage.attempt(self._write)
            self._written_at = time.monotonic()

    def on_train_end(self, logs: Any = None) -> None:
        """Writes what has not been written."""
        self.write()

    def write(self) -> None:
        """Writes what has not been written, waiting for the storage."""
        if self._is_unwritten():
            self._storage.insist(self._write)

    def _is_unwritten(self) -> bool:
        return self._is_chief and self.best_epoch != self._written_epoch

    def _write(self) -> None:
        last_weights = self.model.get_weights()
        try:
            self.model.set_weights(self.best_weights)
            with replacing(self._directory / FILE) as temporary:
                self.model.save(temporary)
        finally:
            self.model.set_weights(last_weights)
        note = {"epoch": self.best_epoch, self._monitor: self.best}
        write_atomically(self._directory / "best.json", json.dumps(note).encode())
        self._written_epoch = self.best_epoch
