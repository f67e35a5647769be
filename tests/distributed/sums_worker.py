"""What a worker of the tests runs: sums by the engine's collectives."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.eager import context

from annlib.training.devices import multi_worker_strategy
from annlib.training.engine.collectives import all_reduce


def values_of(rank: int, sizes: list[int]) -> list[npt.NDArray[np.float32]]:
    """Values of a worker, the same ones whoever asks."""
    return [np.random.default_rng(10 * rank + n).normal(size=n).astype(np.float32) for n in sizes]


def collectives(sizes: list[int]) -> list[tuple[str, int]]:
    """Returns the kind and the elements of each collective by which such values are summed, in their order."""
    strategy = multi_worker_strategy(has_gpu=False)
    values = [tf.zeros(size) for size in sizes]
    graph = tf.function(lambda: strategy.run(lambda: all_reduce(values)), autograph=False).get_concrete_function().graph
    found = [operation for operation in graph.get_operations() if operation.type.startswith("Collective")]
    return [(operation.type, int(operation.inputs[0].shape.num_elements())) for operation in found]


def piece_bytes() -> int:
    """Returns the bytes of the pieces in which this process' server passes tensors."""
    return int(context.context().config.experimental.recv_buf_max_chunk)


def sums(sizes: list[int], dtype: str | None) -> list[npt.NDArray[np.float32]]:
    """Returns the sums over all workers, of the processes' next strategy."""
    strategy = multi_worker_strategy(has_gpu=False)
    values = [tf.constant(value) for value in values_of(strategy.cluster_resolver.task_id, sizes)]
    kind = None if dtype is None else tf.as_dtype(dtype)
    found = tf.function(lambda: strategy.run(lambda: all_reduce(values, kind)), autograph=False)()
    return [value.numpy() for value in found]
