"""TensorBoard's view of a run while it trains: scalars, the graph, histograms of weights."""

import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from annlib.reporting.tensorboard import event_file_name, first_event, records, scalar, summary_event
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
        storage: bears with storage that is away.
    """

    def __init__(self, directory: Path, x: Any, *, histogram_freq: int, storage: StoragePatience) -> None:
        super().__init__()
        self._specs = keras.tree.map_structure(lambda a: tf.TensorSpec((None, *a.shape[1:]), a.dtype), x)
        self._histogram_freq = histogram_freq
        self._storage = storage
        self._files = {split: _EventFile(directory / split) for split in ("train", "validation")}
        self._written_at = time.monotonic()

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the files and writes the graph of the model's call."""
        with self.model.distribute_strategy.scope():
            call = tf.function(self.model, autograph=False).get_concrete_function(self._specs)
        graph = call.graph.as_graph_def().SerializeToString()
        self._files["train"].add(Event(wall_time=time.time(), graph_def=graph))
        self._storage.insist(self._write)

    def add(self, row: dict[str, Any]) -> None:
        """Takes a row of the history."""
        epoch = int(row["epoch"])
        values: dict[str, list[Any]] = {split: [] for split in self._files}
        for name, value in row.items():
            if name not in _NOT_SCALARS:
                tag = name if name == "samples_per_s" else f"epoch_{name.removeprefix('val_')}"
                values["validation" if name.startswith("val_") else "train"].append(scalar(tag, value))
        if self._histogram_freq and epoch % self._histogram_freq == 0:
            values["train"] += self._histograms()
        for split, file in self._files.items():
            if values[split]:
                file.add(summary_event(epoch, values[split]))
        if time.monotonic() - self._written_at >= WRITE_EVERY_S:
            self._storage.attempt(self._write)

    def _histograms(self) -> list[Any]:
        from tensorboard.plugins.histogram.summary_v2 import histogram_pb

        return [histogram_pb(variable.path, variable.numpy()).value[0] for variable in self.model.weights]

    def on_train_end(self, logs: Any = None) -> None:
        """Writes what is left."""
        self.write()

    def write(self) -> None:
        """Writes what has not been written, waiting for the storage."""
        self._storage.insist(self._write)

    def _write(self) -> None:
        self._written_at = time.monotonic()
        for file in self._files.values():
            file.write()


class _EventFile:
    """A file of events, which grows."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / event_file_name()
        self._size = 0
        self._events = [first_event()]

    def add(self, event: Any) -> None:
        """Takes an event."""
        self._events.append(event)

    def write(self) -> None:
        """Writes the events since the last time; where that fails, the next call writes them.

        Raises:
            OSError: there is no room, or no run directory any more.
        """
        if not self._events:
            return
        for directory in (self._path.parent.parent, self._path.parent):
            directory.mkdir(exist_ok=True)
        with self._path.open("ab") as file:
            if file.tell() < self._size:
                # Removed by somebody.
                self._size = 0
                self._events.insert(0, first_event())
            # A part of a record, left when there was no room for the rest, would end the file for its readers.
            file.truncate(self._size)
            content = records(self._events)
            file.write(content)
        self._size += len(content)
        self._events.clear()
