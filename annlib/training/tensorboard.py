"""TensorBoard's view of a run while it trains: scalars, the graph, histograms of weights."""

import errno
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from annlib.training.storage_patience import StoragePatience

# Scalars reach the files this late at most; epochs of milliseconds are not slowed by them.
WRITE_EVERY_S = 0.5
# Columns of a row of the history that have no place among the scalars.
_NOT_SCALARS = ("epoch", "seconds")


class TensorBoard(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Writes event files under the names that `keras.callbacks.TensorBoard` uses, but on a time budget.

    Args:
        directory: holds the subdirectories `train` and `validation`.
        x: what the model takes, for the shapes of the graph's inputs.
        histogram_freq: epochs between two histograms of all weights; 0 writes none.
        storage: waits where the files cannot be opened.
    """

    def __init__(self, directory: Path, x: Any, *, histogram_freq: int, storage: StoragePatience) -> None:
        super().__init__()
        self._specs = keras.tree.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), x)
        self._directory = directory
        self._histogram_freq = histogram_freq
        self._storage = storage
        self._rows: list[dict[str, Any]] = []
        self._written_at = time.monotonic()
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the files and writes the graph of the model's call."""
        self._storage.insist(self._open)
        with self._writers["train"].as_default(), self.model.distribute_strategy.scope():
            call = tf.function(self.model, autograph=False).get_concrete_function(self._specs)
            tf.summary.graph(call.graph)

    def _open(self) -> None:
        try:
            self._writers = {
                split: tf.summary.create_file_writer(str(self._directory / split)) for split in ("train", "validation")
            }
        except tf.errors.OpError as error:
            # On a worker, TensorFlow's own kind of error would be taken for a lost peer.
            raise OSError(errno.EIO, error.message, str(self._directory)) from None

    def add(self, row: dict[str, Any]) -> None:
        """Takes a row of the history."""
        self._rows.append(row)
        epoch = int(row["epoch"])
        if self._histogram_freq and epoch % self._histogram_freq == 0:
            with self._writers["train"].as_default(step=epoch):
                for variable in self.model.weights:
                    tf.summary.histogram(variable.path, variable.numpy())
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self._write()

    def on_train_end(self, logs: Any = None) -> None:
        """Writes what is left and closes the files."""
        self._write()
        for writer in self._writers.values():
            writer.close()

    def _write(self) -> None:
        for row in self._rows:
            for name, value in row.items():
                if name in _NOT_SCALARS:
                    continue
                split = "validation" if name.startswith("val_") else "train"
                tag = name if name == "samples_per_s" else f"epoch_{name.removeprefix('val_')}"
                with self._writers[split].as_default(step=row["epoch"]):
                    tf.summary.scalar(tag, value)
        self._rows.clear()
        for writer in self._writers.values():
            writer.flush()
        self._written_at = time.monotonic()
