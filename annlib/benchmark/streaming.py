"""Samples on disk against the same samples in memory: speed, loss, and memory while the data grows tenfold."""

import dataclasses
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from annlib.benchmark.child import Child
from annlib.data.blocks import Blocks, BlockWriter
from annlib.memory import peak_memory_bytes

NUM_ROWS = (500_000, 5_000_000)
NUM_FEATURES = 20
BATCH_SIZE = 256
SIDES = ("in memory", "streamed")
# Rows that are made and written at once.
_PART_ROWS = 100_000


@dataclasses.dataclass(kw_only=True)
class StreamingTiming:
    """What was measured of a number of rows on one side.

    Args:
        epoch_s: seconds of each epoch after the first, which compiles.
        loss: of the first epoch.
        before_bytes: memory before the data was opened.
        peak_bytes: largest memory.
    """

    epoch_s: list[float]
    loss: float
    before_bytes: int
    peak_bytes: int

    @property
    def median_s(self) -> float:
        """Median of the seconds an epoch."""
        return statistics.median(self.epoch_s)


Timings = dict[int, dict[str, StreamingTiming]]


def measure(*, rounds: int) -> Timings:
    """Trains on the same samples in memory and streamed, in turn, each in a process of its own.

    Args:
        rounds: epochs that are timed, 1 or more.

    Raises:
        TrainingError: a process failed.
    """
    return {num_rows: _measure(num_rows, rounds) for num_rows in NUM_ROWS}


def _measure(num_rows: int, rounds: int) -> dict[str, StreamingTiming]:
    with tempfile.TemporaryDirectory(prefix="annlib-benchmark-") as directory:
        write_samples(Path(directory), num_rows)
        with Child(f"{num_rows:,} rows in memory") as memory, Child(f"{num_rows:,} streamed rows") as streamed:
            children = dict(zip(SIDES, (memory, streamed), strict=True))
            starts = {side: child.call(_prepare, directory, side) for side, child in children.items()}
            found: dict[str, list[float]] = {side: [] for side in SIDES}
            for _, side in itertools.product(range(rounds), SIDES):
                found[side].append(children[side].call(_train)[0])
            return {
                side: StreamingTiming(
                    epoch_s=found[side],
                    loss=starts[side][1],
                    before_bytes=starts[side][0],
                    peak_bytes=child.call(peak_memory_bytes),
                )
                for side, child in children.items()
            }


def write_samples(directory: Path, num_rows: int) -> Blocks:
    """Writes samples of a regression, 20 features of float32."""
    generator = np.random.default_rng(0)
    with BlockWriter(directory) as writer:
        for start in range(0, num_rows, _PART_ROWS):
            x = generator.normal(size=(min(_PART_ROWS, num_rows - start), NUM_FEATURES)).astype(np.float32)
            writer.append(x, np.tanh(x[:, 0] * x[:, 1] + x[:, 2]).astype(np.float32))
        return writer.finish()


_fit: Any  # of a child's process: trains an epoch, returns its loss


def _prepare(directory: str, side: str) -> tuple[int, float]:
    """Runs in the child: opens the data and trains for the first time; returns the memory before, and the loss."""
    global _fit
    import keras

    from annlib.training.engine import StreamedData, fit

    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(size, activation="relu") for size in (64, 32)]
    model = keras.Sequential([keras.Input((NUM_FEATURES,)), *hidden, keras.layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="mse")
    before = peak_memory_bytes()
    blocks = Blocks.open(Path(directory))
    x, y = (StreamedData(blocks=blocks), None) if side == "streamed" else blocks.read([(0, len(blocks))])

    def train() -> float:
        history = fit(model, x, y, batch_size=BATCH_SIZE, verbose=0, seed=0)
        return float(history.history["loss"][-1])

    _fit = train
    return before, train()


def _train() -> tuple[float, float]:
    started = time.perf_counter()
    loss = _fit()
    return time.perf_counter() - started, loss


def streaming_table(timings: Timings) -> Table:
    """Returns a row for each number of rows and side."""
    title = f"Samples on disk, {NUM_FEATURES}-64-32-1, batch {BATCH_SIZE}"
    table = Table("rows", "", "rows/s", "of in memory", "loss", "MB before", "MB more at most", title=title)
    for num_rows, sides in timings.items():
        for side, timing in sides.items():
            table.add_row(
                f"{num_rows:,}",
                side,
                f"{num_rows / timing.median_s:,.0f}",
                f"{sides[SIDES[0]].median_s / timing.median_s:.2f}",
                f"{timing.loss:.5f}",
                f"{timing.before_bytes / 1e6:,.0f}",
                f"{(timing.peak_bytes - timing.before_bytes) / 1e6:,.0f}",
            )
        table.add_section()
    return table
