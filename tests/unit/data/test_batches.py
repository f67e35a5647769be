"""The order of the rows, and how a batch is shared between replicas."""

import numpy as np
import pytest

from annlib.data.batches import epoch_order, replica_rows


@pytest.mark.parametrize("num_samples", [1, 2, 31, 1000])
def test_order_is_a_permutation(num_samples: int) -> None:
    order = epoch_order(num_samples, seed=3, epoch=2)
    np.testing.assert_array_equal(np.sort(order), np.arange(num_samples))


def test_order_is_int32() -> None:
    assert epoch_order(5, seed=0, epoch=0).dtype == np.int32


def test_order_is_the_same_for_the_same_seed_and_epoch_whatever_numpy_drew_before() -> None:
    np.random.seed(1)  # noqa: NPY002
    first = epoch_order(100, seed=4, epoch=7)
    np.random.seed(2)  # noqa: NPY002
    epoch_order(100, seed=4, epoch=6)
    np.testing.assert_array_equal(epoch_order(100, seed=4, epoch=7), first)


def test_order_leaves_numpys_global_generator_alone() -> None:
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    epoch_order(100, seed=4, epoch=7)
    assert np.random.rand() == expected  # noqa: NPY002


@pytest.mark.parametrize(("seed", "epoch"), [(4, 8), (5, 7), (7, 4)])
def test_order_changes_with_seed_and_epoch(seed: int, epoch: int) -> None:
    assert (epoch_order(100, seed=seed, epoch=epoch) != epoch_order(100, seed=4, epoch=7)).any()


def test_rows_keep_their_order_without_shuffling() -> None:
    np.testing.assert_array_equal(epoch_order(9, seed=4, epoch=7, shuffle=False), np.arange(9))


def test_each_row_of_a_batch_has_exactly_one_replica() -> None:
    for size in range(1, 41):
        for replicas in range(1, 8):
            rows = [row for i in range(replicas) for row in range(*replica_rows(size, i, replicas))]
            assert rows == list(range(size)), (size, replicas)


def test_shares_of_replicas_differ_by_one_row_at_most() -> None:
    for size in range(1, 41):
        for replicas in range(1, 8):
            shares = [last - first for first, last in (replica_rows(size, i, replicas) for i in range(replicas))]
            assert max(shares) - min(shares) <= 1, (size, replicas)
