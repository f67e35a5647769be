"""The matrix products of a training step and nothing else: what the machine can do with these shapes.

A dense layer takes three products: its output, the gradient of its kernel, and that of its input, which the first
layer does not need. NumPy's BLAS multiplies, with one thread or all of them, whichever is faster for the shape.
"""

import math
import time
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from annlib.benchmark.cases import BATCH_SIZE, Case, Examples, Weights

# Small products are done many at a time, in C, while they all fit into a core's cache: a call from Python takes longer
# than the smallest of them.
STACK_BYTES = 128 * 1024
Matrix = npt.NDArray[np.float32]


class Product:
    """One product of a step, as a stack of `depth` independent ones."""

    def __init__(self, rows: int, inner: int, columns: int) -> None:
        generator = np.random.default_rng(0)
        size = 4 * (rows * inner + inner * columns + rows * columns)
        self.depth = max(1, STACK_BYTES // size)
        self._left: Matrix = generator.normal(size=(self.depth, rows, inner)).astype(np.float32)
        self._right: Matrix = generator.normal(size=(self.depth, inner, columns)).astype(np.float32)
        self._out: Matrix = np.empty((self.depth, rows, columns), np.float32)
        self._threads: int | None = None
        self._threads = min((None, 1), key=self._seconds)

    def run(self, count: int) -> None:
        """Computes the product `count` times, or a few times more to fill the last stack."""
        with threadpool_limits(self._threads, user_api="blas"):
            for _ in range(math.ceil(count / self.depth)):
                np.matmul(self._left, self._right, out=self._out)

    def _seconds(self, threads: int | None) -> float:
        self._threads = threads
        self.run(10 * self.depth)
        started = time.perf_counter()
        self.run(100 * self.depth)
        return time.perf_counter() - started


class Trainer:
    """Multiplies as often as an epoch does; a smaller last batch counts as a full one."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        self._num_steps = math.ceil(len(train.y) / BATCH_SIZE)
        self._products = step_products(case.layer_sizes(train), BATCH_SIZE)

    def train(self, epochs: int) -> None:
        """Computes the products of so many epochs."""
        for product in self._products:
            product.run(epochs * self._num_steps)


def step_products(sizes: list[tuple[int, int]], batch_size: int) -> list[Any]:
    """Returns the products of one training step of dense layers with these (inputs, outputs)."""
    products = []
    for index, (inputs, outputs) in enumerate(sizes):
        products.append(Product(batch_size, inputs, outputs))
        products.append(Product(inputs, batch_size, outputs))
        if index > 0:
            products.append(Product(batch_size, outputs, inputs))
    return products
