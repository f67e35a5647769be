"""Gradients of dense layers as the two matrices whose product they are.

A kernel W of shape (inputs, outputs) has the gradient X^T D: X are the layer's inputs, one row for each of the batch's,
and D is the gradient of the layer's product X W. Both together are smaller than the gradient as long as the batch has
few rows. Replicas that exchange them, and multiply all rows themselves, wait less for the network: Xie et al.,
Lighter-Communication Distributed Machine Learning via Sufficient Factor Broadcasting, UAI 2016.
"""

import contextlib
import functools
import logging
import math
import os
import platform
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from annlib.training.engine.collectives import sum_over_replicas
from annlib.training.engine.products import Multiply, multiplying

logger = logging.getLogger(__name__)

# Of a global batch: every replica multiplies all of its rows, which takes longer than to sum the gradient at last.
_MAX_ROWS = 256
_NUM_KINDS = 1024


class Factors(NamedTuple):
    """The gradient of a kernel.

    Args:
        inputs: of the layer, float32, shape (rows, inputs).
        upstream: gradient of the product of the inputs and the kernel, float32, shape (rows, outputs).
    """

    inputs: tf.Tensor
    upstream: tf.Tensor

    def product(self) -> tf.Tensor:
        """Returns the gradient as a tensor, shape (inputs, outputs)."""
        return tf.matmul(self.inputs, self.upstream, transpose_a=True)


class Products:
    """Records a model's products of rows and kernels, to give the kernels' gradients as factors.

    Args:
        model: a built Keras model.
        num_rows: rows of the batch on this replica, at least 1.
        size: rows of the batch on all replicas; None records nothing, so that all gradients are tensors.
        is_even: whether all replicas have as many rows.
    """

    def __init__(self, model: keras.Model, *, num_rows: int, size: int | None, is_even: bool) -> None:
        self._num_rows = num_rows
        # All replicas have to choose the same. Where they have different numbers of rows, a matrix may have as many on
        # one of them by chance, unless it comes from the rows for sure.
        allowed = None if is_even else {id(variable) for variable in _kernels_of_rows(model)}
        self._indices = {
            id(variable): index
            for index, variable in enumerate(model.trainable_variables)
            if size is not None and are_smaller(variable.shape, size) and (allowed is None or id(variable) in allowed)
        }
        self._graph = tf.compat.v1.get_default_graph()
        self._recorded: list[tuple[int, tf.Tensor, tf.Tensor]] = []

    @contextlib.contextmanager
    def recorded(self, tape: tf.GradientTape) -> Iterator[None]:
        """Records the products that are computed meanwhile, as the tape does."""

        def multiply(matmul: Multiply, x1: Any, x2: Any) -> Any:
            index = self._indices.get(id(x2))
            if index is None:
                return matmul(x1, x2)
            rows, kernel = keras.ops.convert_to_tensor(x1), keras.ops.convert_to_tensor(x2)
            if not self._is_known(rows) or not rows.dtype == kernel.dtype == tf.float32:
                return matmul(rows, kernel)
            # The tape sees all other uses of the kernel, such as a regularizer's.
            result = matmul(rows, tf.stop_gradient(kernel))
            tape.watch(result)
            self._recorded.append((index, rows, result))
            return result

        with multiplying(multiply) if self._indices else contextlib.nullcontext():
            yield

    def _is_known(self, rows: tf.Tensor) -> bool:
        # In the graph of a loop or of a layer's own function the tape would not find the product.
        is_here = tf.compat.v1.get_default_graph() is self._graph
        return is_here and rows.shape.rank == 2 and rows.shape[0] == self._num_rows

    def gradients(self, tape: tf.GradientTape, loss: tf.Tensor, values: Sequence[tf.Tensor]) -> list[Any]:
        """Returns the loss' gradient for each trainable variable, whose values the tape watched.

        It is `Factors` where a kernel is used for one product and nothing else.
        """
        found = tape.gradient(loss, [*values, *(result for _, _, result in self._recorded)])
        gradients: list[Any] = found[: len(values)]
        for (index, rows, _), upstream in zip(self._recorded, found[len(values) :], strict=True):
            if upstream is None:
                continue
            factors = Factors(rows, tf.convert_to_tensor(upstream))
            before = gradients[index]
            gradients[index] = factors if before is None else _as_tensor(before) + factors.product()
        return gradients


def _kernels_of_rows(model: keras.Model) -> list[keras.Variable]:
    dense = [layer for layer in model._flatten_layers() if type(layer) is keras.layers.Dense]
    # A subclassed model calls its layers in its own code, and leaves no inputs that one could look at.
    inputs = [[node.input_tensors[0] for node in layer._inbound_nodes] for layer in dense]
    return [
        layer.kernel
        for layer, tensors in zip(dense, inputs, strict=True)
        if tensors and all(tensor.shape[0] is None for tensor in tensors)
    ]


def are_smaller(kernel: Sequence[int], num_rows: int) -> bool:
    """Tells whether workers exchange the factors of a kernel's gradient.

    Args:
        kernel: its shape.
        num_rows: rows of the global batch.
    """
    return len(kernel) == 2 and num_rows <= _MAX_ROWS and num_rows * sum(kernel) <= math.prod(kernel)


def _as_tensor(gradient: Any) -> tf.Tensor:
    return gradient.product() if isinstance(gradient, Factors) else tf.convert_to_tensor(gradient)


@functools.cache
def have_same_processor(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether all workers compute a product to the same last bit. All of them have to call it.

    Otherwise their weights would drift apart: sums come to all workers, but products are computed by each.
    """
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    # The workers count each other's kinds; two kinds fall together once in a thousand times.
    kind = zlib.crc32(f"{platform.machine()} {_processor()} {threads}".encode()) % _NUM_KINDS
    counts = sum_over_replicas(strategy, [float(number == kind) for number in range(_NUM_KINDS)])
    are_same = counts[kind] == int(strategy.num_replicas_in_sync)
    if not are_same:
        logger.info("workers have different processors or numbers of threads: they exchange gradients, no factors")
    return are_same


def _processor() -> str:
    """Returns what the processor can do, by which libraries choose their code."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
