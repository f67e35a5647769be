from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from annlib import Dataset
from annlib.errors import DataError
from annlib.training.context import WorkerContext
from annlib.training.engine import collectives
from annlib.training.worker import _check_same_data, _errors_of_hdf5


def test_a_full_disk_below_hdf5_is_waited_for_like_any_other() -> None:
    message = "Can't decrement id ref count (file write failed: errno = 28, error message = 'No space left on device')"
    with pytest.raises(OSError, match="errno = 28"), _errors_of_hdf5():
        raise RuntimeError(message)


def test_other_errors_of_saving_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="a bug"), _errors_of_hdf5():
        raise RuntimeError("a bug")


def dataset(seed: int) -> Dataset:
    x = np.random.default_rng(seed).normal(size=(20, 3))
    return Dataset.from_arrays(x, x.sum(axis=1), class_names=None)


def test_a_worker_with_other_data_than_rank_0_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = SimpleNamespace(workload="own.py:own")
    shares = []

    def add(_: Any, values: list[float]) -> list[float]:
        shares.append(values[0])
        return [sum(shares)]

    monkeypatch.setattr(collectives, "sum_over_replicas", add)
    strategy = SimpleNamespace(num_replicas_in_sync=2)
    ranks = [WorkerContext(rank=rank, strategy=strategy) for rank in (0, 1)]
    _check_same_data(dataset(0), config, ranks[0])
    _check_same_data(dataset(0), config, ranks[1])
    with pytest.raises(DataError, match=r"rank 1 has other data than rank 0: .* Give own\.py:own data that"):
        _check_same_data(dataset(1), config, ranks[1])
