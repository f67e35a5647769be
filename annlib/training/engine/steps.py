"""The loop over the steps of an epoch, as part of a graph."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

import keras
import tensorflow as tf

from annlib.training.engine import small_loops
from annlib.training.engine.arrays import Tensors, num_rows
from annlib.training.engine.delayed import Delayed
from annlib.training.engine.local import take_rows


class Step(Protocol):
    """What runs a batch: `LocalStep` or `ReplicatedStep`."""

    def prepare(self, data: tuple[Tensors, ...]) -> None:
        """Makes variables that the step needs; called outside of the graph."""

    def reset(self) -> None:
        """Sets the metrics back to the state they have at the start of an epoch."""

    def run(self, data: tuple[Tensors, ...], rows: tf.Tensor | None, start: tf.Tensor, size: int | tf.Tensor) -> None:
        """Runs the batch of `size` rows that starts at `start` of the order `rows`."""

    def results(self) -> dict[str, Any]:
        """Returns the metrics' values by name."""


def run_steps(
    step: Step,
    data: tuple[Tensors, ...],
    rows: tf.Tensor | None = None,
    *,
    batch_size: int,
    first: tf.Tensor,
    last: tf.Tensor,
    delayed: Delayed | None = None,
) -> None:
    """Runs the steps [first, last): full batches in a loop, then the smaller last one if the range reaches it.

    The last batch is traced with its own size: it counts exactly, whatever the loss, the metrics and the
    normalisation layers do with the number of rows.

    Args:
        step: runs a batch.
        data: what `as_dataset` returned.
        rows: the order of the rows, int32, shape (num_samples,); None takes them as they are stored.
        batch_size: rows of a global batch, at least 1.
        first: first step of the epoch, counted from 0.
        last: step after the last one.
        delayed: runs several full batches at once, as long as there are so many.
    """
    num_full, tail = divmod(num_rows(data), batch_size)

    def run_full_batch(index: tf.Tensor) -> tuple[tf.Tensor]:
        step.run(data, rows, index * batch_size, batch_size)
        return (index + 1,)

    def run_several_batches(index: tf.Tensor, delayed: Delayed) -> tuple[tf.Tensor]:
        (x,) = take_rows(data[:1], rows, index * batch_size, delayed.num_steps * batch_size)
        delayed.run(x, lambda number: run_full_batch(index + number))
        return (index + delayed.num_steps,)

    def run_tail() -> bool:
        step.run(data, rows, tf.constant(num_full * batch_size), tail)
        return True

    if num_full:
        end, begin = tf.minimum(last, num_full), first
        if delayed is not None and delayed.num_steps <= num_full and tf.is_tensor(data[0]):
            begin = _loop(functools.partial(run_several_batches, delayed=delayed), begin, end - delayed.num_steps + 1)
        _loop(run_full_batch, begin, end)
    if tail:
        tf.cond(last > tf.maximum(first, num_full), run_tail, lambda: False)


def _loop(body: Callable[[tf.Tensor], tuple[tf.Tensor]], begin: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Runs the body, which returns its next index, from `begin` on and as long as that is less than `end`."""
    (index,) = tf.while_loop(lambda index: small_loops.goes_on(index, end), body, [begin], parallel_iterations=1)
    return index


def run_any_number(
    step: Step, data: tuple[Tensors, ...], *, batch_size: int, first: tf.Tensor, last: tf.Tensor
) -> None:
    """Does as `run_steps` with data whose number of rows is not known while the graph is made.

    One graph serves data sets of all sizes, but its operations do not know how many rows a batch has.
    """
    num = tf.shape(keras.tree.flatten(data)[0])[0]
    end = tf.minimum(last * batch_size, num)

    def run_batch(start: tf.Tensor) -> tuple[tf.Tensor]:
        step.run(data, None, start, tf.minimum(batch_size, num - start))
        return (start + batch_size,)

    tf.while_loop(lambda start: start < end, run_batch, [first * batch_size], parallel_iterations=1)
