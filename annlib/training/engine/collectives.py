"""Sums over the replicas of a `tf.distribute.Strategy`."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def all_reduce(values: list[tf.Tensor], dtype: tf.DType | None = None) -> list[tf.Tensor]:
    """Sums each value over the replicas, all of them in one collective of one flat tensor; in a replica's context."""
    if not values:
        return []
    if dtype is None:
        dtype = tf.float64 if any(value.dtype == tf.float64 for value in values) else tf.float32
    flat = tf.concat([tf.reshape(tf.cast(value, dtype), [-1]) for value in values], axis=0)
    flat = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
    parts = tf.split(flat, [int(np.prod(value.shape)) for value in values])
    return [tf.cast(tf.reshape(part, value.shape), value.dtype) for part, value in zip(parts, values, strict=True)]


def sum_over_replicas(strategy: tf.distribute.Strategy, values: Sequence[float]) -> list[float]:
    """Returns each value summed over all replicas, the same on every worker. All workers have to call it."""
    total = _summing_function(strategy)(tf.constant(values, tf.float32))
    return [float(value) for value in strategy.experimental_local_results(total)[0].numpy()]


def values_of_chief(strategy: tf.distribute.Strategy, values: Sequence[float], *, is_chief: bool) -> list[float]:
    """Returns the chief's values, float32, on every worker. All workers have to call it."""
    if strategy.num_replicas_in_sync == 1:
        return list(values)
    return sum_over_replicas(strategy, [value if is_chief else 0.0 for value in values])


@functools.cache
def _summing_function(strategy: tf.distribute.Strategy) -> Any:
    # Kept for each strategy, for tracing a new function takes longer than the sum.
    return tf.function(lambda values: strategy.run(lambda v: all_reduce([v])[0], args=(values,)), autograph=False)
