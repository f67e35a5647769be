"""The order of windows: every row once an epoch, whole batches, a function of (seed, epoch), and well mixed."""

import numpy as np
import pytest

from annlib.data.windows import WindowPlan


def rows_of(plan: WindowPlan, epoch: int) -> list[int]:
    """The global order, window by window."""
    rows: list[int] = []
    for index in range(plan.num_windows):
        window = plan.window(epoch, index)
        assert window.first_step * plan.batch_size == len(rows)
        found = np.concatenate([np.arange(start, stop) for start, stop in window.ranges])
        order = window.order()
        rows += (found if order is None else found[order]).tolist()
    return rows


@pytest.mark.parametrize("num_rows", [1, 7, 8, 9, 127, 128, 129, 1000, 4097])
@pytest.mark.parametrize(("batch_size", "most_rows"), [(1, 1), (8, 1), (8, 20), (8, 300), (32, 600), (7, 10**9)])
@pytest.mark.parametrize("seed", [None, 3])
def test_every_row_comes_once(num_rows: int, batch_size: int, most_rows: int, seed: int | None) -> None:
    plan = WindowPlan(num_rows=num_rows, batch_size=batch_size, most_rows=most_rows, seed=seed)
    for epoch in range(3):
        rows = rows_of(plan, epoch)
        assert sorted(rows) == list(range(num_rows))
        if seed is None:
            assert rows == list(range(num_rows))
    # Of each window but the last, whole batches; and no window is larger than it may be, or than a batch.
    sizes = [plan.window(0, index).num_rows for index in range(plan.num_windows)]
    assert all(size == plan.window_steps * batch_size for size in sizes[:-1])
    assert max(sizes) <= max(most_rows, batch_size)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return rows_of(WindowPlan(num_rows=1000, batch_size=8, most_rows=256, seed=seed), epoch)

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in range(3)}) == 6


def test_rows_of_all_parts_are_in_each_window_and_neighbours_part() -> None:
    """A file that is sorted by its target must not give windows of one target."""
    plan = WindowPlan(num_rows=100_000, batch_size=10, most_rows=10_000, seed=0)
    means = []
    for epoch in range(5):
        rows = np.array(rows_of(plan, epoch)).reshape(10, -1)
        means.append(rows.mean(axis=1))
        followers = np.abs(np.diff(rows, axis=1)) == 1
        assert followers.mean() < 0.01
    # The mean of 16 blocks of a sorted column of 0 to 100,000 has a deviation of 100,000 / sqrt(12 * 16) = 7,217.
    assert np.abs(np.array(means) - 50_000).max() < 4 * 7_217
    assert np.std(means) < 1.5 * 7_217


def test_a_pair_of_rows_is_not_always_in_one_block() -> None:
    """Blocks begin elsewhere in each epoch."""
    plan = WindowPlan(num_rows=1024, batch_size=8, most_rows=256, seed=0)
    starts = {plan.window(epoch, 0).ranges[0][0] % plan.block_rows for epoch in range(20)}
    assert len(starts) > 5


def test_large_batches_of_wide_rows_keep_to_the_memory() -> None:
    row_bytes = 4 * 401
    plan = WindowPlan(num_rows=10**7, batch_size=8192, most_rows=32 * 2**20 // row_bytes, seed=0)
    assert plan.window(0, 0).num_rows * row_bytes <= 32 * 2**20


def test_windows_of_batches_that_fit_are_of_16_blocks() -> None:
    """Runs that are resumed go on in the order that they began with."""
    for batch_size, most_rows in ((1, 16), (8, 300), (32, 513), (32, 20_000), (7, 10**6)):
        assert WindowPlan(num_rows=10**7, batch_size=batch_size, most_rows=most_rows, seed=0).window_blocks == 16
