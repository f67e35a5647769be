"""The global order of samples that do not fit into memory: windows of blocks, of which one is in memory at a time.

An epoch visits blocks of rows in an order that depends on (seed, epoch) alone; so many of them as fit into memory are a
window, whose rows are shuffled together. Blocks begin at another row in each epoch, so that they are not the same ones.
Every window but the last is a multiple of the global batch: no batch is in two of them, and no row is left out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# Blocks of a window, where it has room for a batch in each. More mix better, and take more seeks; 16 blocks of 1 MB are
# read as fast as one of 16 MB.
BLOCKS_OF_A_WINDOW = 16


@dataclass(frozen=True)
class Window:
    """Rows that are in memory at the same time.

    Args:
        first_step: number of its first batch within the epoch.
        ranges: half-open ranges of rows.
        seed: seed of the order of its rows; None for the order of the ranges.
    """

    first_step: int
    ranges: tuple[tuple[int, int], ...]
    seed: tuple[int, ...] | None

    @property
    def num_rows(self) -> int:
        """Rows of all ranges."""
        return sum(stop - start for start, stop in self.ranges)

    def order(self) -> npt.NDArray[np.int32] | None:
        """Returns the order of its rows, counted from its first one; None for the order they are read in."""
        if self.seed is None:
            return None
        order = np.arange(self.num_rows, dtype=np.int32)
        np.random.default_rng(self.seed).shuffle(order)
        return order


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """How epochs are cut into windows.

    Args:
        num_rows: all rows, 1 or more.
        batch_size: rows of a global batch.
        most_rows: rows that a window may have; one batch is the least.
        seed: seed of the run; None keeps the rows in their order.
    """

    num_rows: int
    batch_size: int
    most_rows: int
    seed: int | None

    @property
    def num_steps(self) -> int:
        """Batches of an epoch."""
        return math.ceil(self.num_rows / self.batch_size)

    @property
    def block_rows(self) -> int:
        """Rows of a block, a multiple of the global batch."""
        return max(1, self.most_rows // BLOCKS_OF_A_WINDOW // self.batch_size) * self.batch_size

    @property
    def window_blocks(self) -> int:
        """Blocks of each window but the last: fewer where batches are large."""
        return max(1, min(BLOCKS_OF_A_WINDOW, self.most_rows // self.block_rows))

    @property
    def window_steps(self) -> int:
        """Batches of each window but the last."""
        return self.window_blocks * self.block_rows // self.batch_size

    @property
    def num_windows(self) -> int:
        """Windows of an epoch."""
        return math.ceil(self.num_steps / self.window_steps)

    def parts(self, first: int, last: int) -> Iterator[tuple[int, int, int]]:
        """Yields the windows of the steps [first, last): number, first step and step after the last within it."""
        for index in range(first // self.window_steps, math.ceil(last / self.window_steps)):
            start = index * self.window_steps
            yield index, max(first - start, 0), min(last - start, self.window_steps)

    def window(self, epoch: int, index: int) -> Window:
        """Returns a window of an epoch, both counted from 0."""
        num_blocks = math.ceil(self.num_rows / self.block_rows)
        order = np.arange(num_blocks)
        offset = 0
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, epoch])
            offset = int(generator.integers(self.num_rows))
            # The last block, which may be a shorter one, stays last: only the last window has rows over.
            generator.shuffle(order[:-1])
        blocks = order[index * self.window_blocks : (index + 1) * self.window_blocks].tolist()
        ranges = [part for block in blocks for part in self._ranges(block, offset)]
        # From 1: a seed that ends with 0 is the same as one without it, which is that of the blocks.
        seed = None if self.seed is None else (self.seed, epoch, index + 1)
        return Window(index * self.window_steps, tuple(ranges), seed)

    def _ranges(self, block: int, offset: int) -> list[tuple[int, int]]:
        """Returns the rows of a block, two ranges where it goes on at the beginning."""
        start = offset + block * self.block_rows
        stop = offset + min((block + 1) * self.block_rows, self.num_rows)
        if start >= self.num_rows:
            return [(start - self.num_rows, stop - self.num_rows)]
        if stop <= self.num_rows:
            return [(start, stop)]
        return [(start, self.num_rows), (0, stop - self.num_rows)]
