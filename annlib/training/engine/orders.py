"""The order of the rows in each epoch, on the device when it is needed."""

import concurrent.futures

import numpy as np
import tensorflow as tf

from annlib.data.batches import epoch_order

# The most epochs of one call, and the most row numbers that they take together: 4 MB.
MAX_EPOCHS_AT_ONCE = 32
MAX_ROWS_AT_ONCE = 2**20


class EpochOrders:
    """Makes the orders of epochs; those of several while the device works on the epochs before.

    Args:
        num_rows: rows of the training split.
        seed: seed of the order; None leaves the rows as they are stored.
    """

    def __init__(self, num_rows: int, *, seed: int | None) -> None:
        self.most_at_once = max(1, min(MAX_EPOCHS_AT_ONCE, MAX_ROWS_AT_ONCE // num_rows))
        self.shuffles = seed is not None
        self._num_rows = num_rows
        self._seed = seed
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._current: tuple[tuple[int, int, int], tf.Tensor] | None = None
        self._next: tuple[tuple[int, int, int], concurrent.futures.Future[tf.Tensor]] | None = None

    def close(self) -> None:
        """Ends the thread that makes orders."""
        self._thread.shutdown(cancel_futures=True)

    def take(self, epoch: int, num_epochs: int, size: int) -> tf.Tensor | None:
        """Returns int32, shape (size, num_rows), whose first `num_epochs` rows are the orders from `epoch` on."""
        if self._seed is None:
            return None
        wanted = (epoch, num_epochs, size)
        if num_epochs == 1:
            # Switching between threads would cost more than the order of one short epoch. A long one comes in chunks.
            if self._current is None or self._current[0] != wanted:
                self._current = (wanted, self._make(*wanted))
            return self._current[1]
        known = self._next
        order = known[1].result() if known is not None and known[0] == wanted else self._make(*wanted)
        following = (epoch + num_epochs, num_epochs, size)
        self._next = (following, self._thread.submit(self._make, *following))
        return order

    def _make(self, epoch: int, num_epochs: int, size: int) -> tf.Tensor:
        assert self._seed is not None
        orders = np.empty((size, self._num_rows), dtype=np.int32)
        for offset in range(num_epochs):
            orders[offset] = epoch_order(self._num_rows, seed=self._seed, epoch=epoch + offset)
        return tf.constant(orders)
