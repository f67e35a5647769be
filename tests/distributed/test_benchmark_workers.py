"""The benchmark's own processes under the real strategy: what it times is a training step of the global batch."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import sums_worker

from annlib.benchmark import groups
from annlib.benchmark.child import Child, call_all
from annlib.benchmark.scaling import Setting
from annlib.data.batches import epoch_order

HIDDEN = (5,)
BATCH_SIZE, STEPS = 16, 4
TIMEOUT_S = 240
WEIGHTS = f"[variable.numpy() for variable in worker._bare_variables({HIDDEN})]"


@pytest.fixture(scope="module")
def children() -> Iterator[list[Child]]:
    with groups._group(2, sorted(os.sched_getaffinity(0))) as children:
        # TensorFlow wants to know the other workers before anything else.
        assert evaluate(children, "worker.join('annlib')") == [2, 2]
        yield children


def evaluate(children: list[Child], expression: str) -> list[Any]:
    """Returns what an expression about the module `worker` is in each process."""
    module = "__import__('annlib.benchmark.worker', fromlist=['worker'])"
    return call_all(children, eval, f"(lambda worker: {expression})({module})", timeout_s=TIMEOUT_S)


def train(weights: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """One process, all rows of each batch, in float64."""
    first, first_bias, last, last_bias = (weight.astype(np.float64) for weight in weights)
    order = epoch_order(len(y), seed=0, epoch=0)
    for start in range(0, len(y), BATCH_SIZE):
        rows = order[start : start + BATCH_SIZE]
        hidden = np.maximum(x[rows] @ first + first_bias, 0)
        outputs = np.exp(hidden @ last + last_bias)
        gradient = (outputs / outputs.sum(1, keepdims=True) - np.eye(10)[y[rows]]) / BATCH_SIZE
        back = gradient @ last.T * (hidden > 0)
        last, last_bias = last - 0.01 * hidden.T @ gradient, last_bias - 0.01 * gradient.sum(0)
        first, first_bias = first - 0.01 * x[rows].T @ back, first_bias - 0.01 * back.sum(0)
    return [first, first_bias, last, last_bias]


def test_the_bare_loop_is_an_epoch_of_sgd_on_the_global_batch(children: list[Child]) -> None:
    before = evaluate(children, WEIGHTS)
    x, y = evaluate(children, f"[part.numpy() for part in worker._arrays({BATCH_SIZE * STEPS})]")[0]
    seconds = evaluate(children, f"worker.bare_step_s({HIDDEN}, {BATCH_SIZE}, {STEPS})")
    after = evaluate(children, WEIGHTS)
    expected = train(before[0], x, y)
    assert min(seconds) > 0
    for rank in range(2):
        for found, weight, start in zip(after[rank], expected, before[0], strict=True):
            np.testing.assert_allclose(found, weight, rtol=1e-4, atol=1e-6)
            assert np.abs(found - start).max() > 1e-5


def test_an_all_reduce_takes_its_time(children: list[Child]) -> None:
    assert all(seconds > 0 for seconds in evaluate(children, "worker.all_reduce_s(256, 3)"))


# Gathered, by the ring, gathered in another shape under the numbers of the first, in types that are not gathered, and
# two by themselves between two others.
@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ([3, 1], None),
        ([140_000], None),
        ([7], "float64"),
        ([5], "bfloat16"),
        ([5], "float16"),
        ([3, 1_048_576, 5, 1_048_577], None),
    ],
)
def test_sums_are_the_same_on_all_workers(children: list[Child], sizes: list[int], dtype: str | None) -> None:
    found = call_all(children, sums_worker.sums, sizes, dtype, timeout_s=TIMEOUT_S)
    expected = [sum(parts) for parts in zip(*(sums_worker.values_of(rank, sizes) for rank in range(2)), strict=True)]
    rtol = {"bfloat16": 0.02, "float16": 0.002}.get(dtype or "", 1e-6)
    for ours, theirs, reference in zip(*found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, reference, rtol=rtol, atol=rtol)


def test_large_values_go_by_themselves_as_soon_as_they_are_there(children: list[Child]) -> None:
    found, same = call_all(
        children, sums_worker.collectives, [2_000_000, 16, 1_048_576, 32, 200_000], timeout_s=TIMEOUT_S
    )
    assert found == same
    assert found == [("CollectiveReduceV2", size) for size in (1_048_576, 2_000_000, 200_048)]
    # Few enough to be gathered.
    found, _ = call_all(children, sums_worker.collectives, [100_000, 16], timeout_s=TIMEOUT_S)
    assert found == [("CollectiveGatherV2", 100_016)]


def test_messages_have_large_pieces(children: list[Child]) -> None:
    assert call_all(children, sums_worker.piece_bytes, timeout_s=TIMEOUT_S) == [2**14, 2**14]


@pytest.mark.slow
def test_everything_is_measured_for_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MODELS", {"784-300-100-10": ((5,), 10)})
    monkeypatch.setattr(groups, "WORLD_SIZES", (1, 2))
    monkeypatch.setattr("annlib.benchmark.scaling.WORLD_SIZES", (1, 2))
    monkeypatch.setattr(groups, "COMPUTE_ROWS", (8,))
    monkeypatch.setattr(groups, "ALL_REDUCE_BYTES", (1024,))
    monkeypatch.setattr(groups, "ALL_REDUCE_MEASURE_S", 0.01)
    monkeypatch.setattr(groups, "_measure_memory", lambda *arguments: {})
    scaling = groups.measure_scaling(rounds=2)
    name = "784-300-100-10"
    assert set(scaling.steps) == {Setting(name, *pair) for pair in ((1, 8), (1, 32), (2, 32), (2, 64))}
    assert set(scaling.all_reduces) == {(side, 2, n) for side in ("annlib", "bare") for n in (1024, 4 * 266_610)}
    times = [t for found in scaling.steps.values() for side in found.values() for t in side]
    assert len(times) == 4 * 2 * 2
    assert min(times) > 0
