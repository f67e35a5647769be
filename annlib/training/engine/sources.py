"""Where steps get their rows: arrays on the device, or windows of samples on disk, one of which is on the device."""

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from annlib.data.blocks import Blocks
from annlib.data.windows import WindowPlan
from annlib.errors import ConfigError
from annlib.training.engine.arrays import as_dataset, num_rows
from annlib.training.engine.orders import EpochOrders
from annlib.training.engine.packed_logs import Logs
from annlib.training.engine.program import NO_STEPS, Data, EvaluationProgram, Run, Steps, TrainingProgram

# The order of the samples depends on it, so it is the same on all machines. Three times so much is in memory.
WINDOW_BYTES = 32 * 2**20
# Without an order, smaller ones do as well: 8 MB are read in a few milliseconds.
_ORDERED_WINDOW_BYTES = WINDOW_BYTES // 4
_Loaded = tuple[Data, tf.Tensor | None]


@dataclass(frozen=True, kw_only=True)
class StreamedData:
    """Samples on disk to train on or to evaluate, instead of x and y.

    Args:
        blocks: arrays x, y and perhaps sample weights.
        window_bytes: bytes of the samples that are shuffled together. In memory are at once the window that is
            trained on, the next one, and a copy while it is made.
        model_inputs: what the model takes, made of x; None is x as it is.
    """

    blocks: Blocks
    window_bytes: int = WINDOW_BYTES
    model_inputs: Callable[[np.ndarray[Any, Any]], Any] | None = None

    def __len__(self) -> int:
        return len(self.blocks)

    def load(self, ranges: tuple[tuple[int, int], ...]) -> Data:
        """Returns rows as `as_dataset` does."""
        x, *others = self.blocks.read(ranges)
        return as_dataset(x if self.model_inputs is None else self.model_inputs(x), *others)

    def plan(self, batch_size: int, seed: int | None) -> WindowPlan:
        """Returns how epochs are cut into windows; a seed of None takes the rows as they are stored."""
        window_bytes = self.window_bytes if seed is not None else min(self.window_bytes, _ORDERED_WINDOW_BYTES)
        most_rows = max(1, window_bytes // self.blocks.row_bytes)
        return WindowPlan(num_rows=len(self), batch_size=batch_size, most_rows=most_rows, seed=seed)


class Source(Protocol):
    """Rows to train on; a context manager."""

    num_steps: int
    """Batches of an epoch."""
    sample: Data
    """Rows that the model can be built for."""
    most_epochs_at_once: int
    """Whole epochs that one call can run."""

    def bind(self, program: TrainingProgram, validation: Data | None) -> None:
        """Takes what runs the steps, and what they validate on."""

    def run(
        self, epoch: int, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: Steps
    ) -> list[tuple[Logs, Logs]]:
        """Runs the steps [first, last) of an epoch, or all steps of several; otherwise as `program.Run`."""

    def __enter__(self) -> "Source": ...

    def __exit__(self, *_: Any) -> None: ...


class ArraySource:
    """Rows that are on the device."""

    def __init__(self, data: Data, batch_size: int, seed: int | None) -> None:
        self.num_steps = math.ceil(num_rows(data) / batch_size)
        self.sample = data
        self._orders = EpochOrders(num_rows(data), seed=seed)
        self.most_epochs_at_once = self._orders.most_at_once
        self._max_epochs = 1
        self._run: Run

    def __enter__(self) -> "ArraySource":
        return self

    def __exit__(self, *_: Any) -> None:
        self._orders.close()

    def bind(self, program: TrainingProgram, validation: Data | None) -> None:
        """Takes what runs the steps, and what they validate on."""
        self._max_epochs = program.max_epochs
        self._run = program.bind(self.sample, validation, shuffles=self._orders.shuffles)

    def run(
        self, epoch: int, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: Steps
    ) -> list[tuple[Logs, Logs]]:
        """Runs the steps [first, last) of an epoch, or all steps of several; otherwise as `program.Run`."""
        orders = self._orders.take(epoch, num_epochs, self._max_epochs)
        return self._run(orders, first, last, num_epochs=num_epochs, begins=begins, validates=validates)


class StreamSource:
    """Rows that are read window by window, the next one while the steps of one run."""

    most_epochs_at_once = 1

    def __init__(self, data: StreamedData, batch_size: int, seed: int | None) -> None:
        self._windows = _Windows(data, data.plan(batch_size, seed))
        self._shuffles = seed is not None
        self.num_steps = self._windows.plan.num_steps
        self.sample = data.load(((0, 1),))
        self._bound: tuple[TrainingProgram, Data | None]

    def __enter__(self) -> "StreamSource":
        return self

    def __exit__(self, *_: Any) -> None:
        self._windows.close()

    def bind(self, program: TrainingProgram, validation: Data | None) -> None:
        """Takes what runs the steps, and what they validate on."""
        self._bound = (program, validation)

    def run(
        self, epoch: int, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: Steps
    ) -> list[tuple[Logs, Logs]]:
        """Runs the steps [first, last) of an epoch; otherwise as `program.Run`."""
        program, validation = self._bound
        plan = self._windows.plan
        results: list[tuple[Logs, Logs]] = []
        # No steps are those at the end of an epoch.
        end_of_epoch = (plan.num_windows - 1, plan.window_steps, plan.window_steps)
        for index, start, end in list(plan.parts(first, last)) or [end_of_epoch]:
            data, order = self._windows.take(epoch, index)
            run = program.bind(data, validation, shuffles=self._shuffles)
            orders = None if order is None else order[tf.newaxis]
            is_last = index * plan.window_steps + end == last
            results = run(orders, start, end, begins=begins, validates=validates if is_last else NO_STEPS)
            begins = False
            # Not kept while the one after the next is read.
            del data, order, orders, run
        return results


class _Windows:
    """Windows in memory: one, and the one after it as soon as it has been read."""

    def __init__(self, data: StreamedData, plan: WindowPlan) -> None:
        self.plan = plan
        self._data = data
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="annlib-windows")
        self._next: tuple[tuple[int, int], Future[_Loaded]] | None = None
        self._current: tuple[tuple[int, int], _Loaded] | None = None

    def close(self) -> None:
        self._reader.shutdown(cancel_futures=True)

    def take(self, epoch: int, index: int) -> _Loaded:
        """Returns a window and the order of its rows, and begins to read the one after it."""
        place = (epoch, index)
        if self._current is not None and self._current[0] == place:
            return self._current[1]
        # Before the next one is read: two are in memory, no third.
        self._current = None
        if self._next is None or self._next[0] != place:
            self._next = (place, self._reader.submit(self._load, *place))
        loaded = self._next[1].result()
        after = (epoch, index + 1) if index + 1 < self.plan.num_windows else (epoch + 1, 0)
        self._next = (after, self._reader.submit(self._load, *after))
        self._current = (place, loaded)
        return loaded

    def _load(self, epoch: int, index: int) -> _Loaded:
        window = self.plan.window(epoch, index)
        order = window.order()
        return self._data.load(window.ranges), None if order is None else tf.constant(order)


def source_of(data: Data | StreamedData, batch_size: int, seed: int | None) -> Source:
    """Returns where the steps get their rows; a seed of None takes them as they are stored."""
    if isinstance(data, StreamedData):
        return StreamSource(data, batch_size, seed)
    return ArraySource(data, batch_size, seed)


def only_streamed(x: Any, **others: Any) -> StreamedData | None:
    """Returns x where it is `StreamedData`, None where it is something else.

    Raises:
        ConfigError: targets or weights are given beside it.
    """
    if not isinstance(x, StreamedData):
        return None
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            f"{', '.join(given)} cannot be given with StreamedData: expected its own targets and weights, received "
            "more. Leave them out, or write them with the samples."
        )
    return x


def num_samples(data: Data | StreamedData) -> int:
    """Returns the number of samples."""
    return len(data) if isinstance(data, StreamedData) else num_rows(data)


def bind_evaluation(
    program: EvaluationProgram, data: Data | StreamedData, batch_size: int
) -> Callable[[int, int], Logs]:
    """Returns what evaluates the steps [first, last) and returns the metrics since step 0, numbers and arrays."""
    if not isinstance(data, StreamedData):
        run = program.bind(data)
        return lambda first, last: run(first, last, begins=first == 0)
    plan = data.plan(batch_size, None)

    def evaluate_windows(first: int, last: int) -> Logs:
        logs: Logs = {}
        windows = _Windows(data, plan)
        try:
            for index, start, end in plan.parts(first, last):
                logs = program.bind(windows.take(0, index)[0])(start, end, begins=index == start == 0)
        finally:
            windows.close()
        return logs

    return evaluate_windows
