"""The formula against a ring that is walked through, and the fits against times that the formula made."""

import numpy as np
import pytest

from annlib.benchmark.ring import Compute, Link, fit_compute, fit_link


def walk(link: Link, num_bytes: float, num_workers: int) -> float:
    """Passes chunks around the ring: all workers send at the same time, so that a round takes one message's time."""
    chunk = num_bytes / num_workers
    rounds = [*range(num_workers - 1), *range(num_workers - 1)]  # reduce-scatter, then all-gather
    return sum(link.alpha_s + chunk * link.s_per_byte for _ in rounds)


@pytest.mark.parametrize("num_workers", [2, 3, 4, 512])
def test_the_formula_is_the_time_of_all_rounds_of_a_ring(num_workers: int) -> None:
    link = Link(alpha_s=3e-5, s_per_byte=1e-9)
    assert link.all_reduce_s(1e6, num_workers) == pytest.approx(walk(link, 1e6, num_workers), rel=1e-12)


def test_one_worker_sends_nothing() -> None:
    assert Link(alpha_s=1.0, s_per_byte=1.0).all_reduce_s(1e6, 1) == 0.0


def test_links_one_after_the_other_add_up() -> None:
    first, second = Link(alpha_s=1e-5, s_per_byte=1e-9), Link(alpha_s=2e-6, s_per_byte=3e-10)
    both = first.after(second).all_reduce_s(5e5, 8)
    assert both == pytest.approx(first.all_reduce_s(5e5, 8) + second.all_reduce_s(5e5, 8), rel=1e-12)


@pytest.mark.parametrize("num_workers", [2, 4])
def test_the_fit_finds_latency_and_bandwidth(num_workers: int) -> None:
    sizes = [1e3, 1e4, 1e6, 8e7]
    link = fit_link(sizes, [walk(Link(alpha_s=2e-4, s_per_byte=2e-9), n, num_workers) for n in sizes], num_workers)
    assert (link.alpha_s, link.s_per_byte) == (pytest.approx(2e-4), pytest.approx(2e-9))


def test_the_fit_of_noisy_times_is_near() -> None:
    noise = np.random.default_rng(0).uniform(0.9, 1.1, 6)
    sizes = np.array([1e3, 1e4, 1e5, 1e6, 1e7, 8e7])
    link = fit_link(list(sizes), list((2 * 2e-4 + sizes * 2e-9) * noise), 2)
    assert (link.alpha_s, link.s_per_byte) == (pytest.approx(2e-4, rel=0.1), pytest.approx(2e-9, rel=0.1))


def test_neither_part_becomes_negative() -> None:
    # A line through these has a negative latency.
    link = fit_link([1e6, 2e6], [1e-3, 4e-3], 2)
    assert link.alpha_s == 0.0
    assert link.s_per_byte > 0.0


def test_computing_is_a_fixed_part_and_a_part_for_each_row() -> None:
    compute = fit_compute([8, 16, 128], [1e-3 + 8e-5, 1e-3 + 16e-5, 1e-3 + 128e-5])
    assert (compute.fixed_s, compute.row_s) == (pytest.approx(1e-3), pytest.approx(1e-5))
    assert Compute(fixed_s=2.0, row_s=0.5).step_s(4) == 4.0
