import importlib
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from annlib import Dataset
from annlib.artifacts import RunDirectory
from annlib.config import RunConfig, load_config
from annlib.errors import DataError
from annlib.training import callbacks, checkpoint, worker
from annlib.training.context import WorkerContext
from annlib.training.engine import collectives, validates_in_parts
from annlib.training.worker import _check_same_data, train_worker
from annlib.workloads import find

session = importlib.import_module("annlib.training.engine.session")


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


def configure(storage: Path) -> RunConfig:
    given = {
        "workload": "digits",
        "epochs": 3,
        "hidden": "16",
        "storage": storage,
        "name": "run",
        "global_batch_size": 32,
    }
    return load_config(given, defaults=find("digits").defaults, environment={})


def test_a_run_stops_within_a_validation_that_takes_long_and_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "evaluation_batch_size", lambda model, batch_size: batch_size)
    monkeypatch.setattr(session, "CHUNK_S", 0.0)
    seen: list[bool] = []

    def note_validation(model: keras.Model) -> bool:
        seen.append(validates_in_parts(model))
        return seen[-1]

    def train(storage: Path) -> tuple[dict[str, Any], list[dict[str, str]]]:
        config = configure(storage)
        # In the second part of an epoch's validation.
        context = WorkerContext(rank=0, strategy=tf.distribute.get_strategy(), stop_requested=lambda: sum(seen) == 2)
        run = RunDirectory(config.run_path)
        run.create()
        result = train_worker(config, find("digits"), context)
        rows = run.read_history()
        return result, [{k: v for k, v in row.items() if k not in ("seconds", "samples_per_s")} for row in rows]

    expected = train(tmp_path / "undisturbed")
    monkeypatch.setattr(callbacks, "validates_in_parts", note_validation)
    result, history = train(tmp_path / "stopped")
    num_steps = math.ceil(len(find("digits").load(configure(tmp_path)).train) / 32)
    assert result == {"interrupted": True, "progress": f"epoch 0 and {num_steps} steps"}
    assert history == []
    monkeypatch.setattr(callbacks, "validates_in_parts", validates_in_parts)
    seen.clear()
    result, history = train(tmp_path / "stopped")
    assert history == expected[1]
    assert len(history) == 3
    assert result["metrics"] == expected[0]["metrics"]


def test_a_checkpoint_that_is_asked_for_is_on_the_storage_before_it_is_told(tmp_path: Path) -> None:
    config, told = configure(tmp_path), []
    context = WorkerContext(
        rank=0,
        strategy=tf.distribute.get_strategy(),
        save_requested=lambda: not told,
        flush_storage=lambda: told.append("flushed"),
        on_saved=lambda: told.append("saved"),
    )
    RunDirectory(config.run_path).create()
    train_worker(config, find("digits"), context)
    assert told[:2] == ["flushed", "saved"]


def test_a_checkpoint_that_rank_0_alone_sees_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure(tmp_path)
    run = RunDirectory(config.run_path)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    step = 2**24 + 1
    monkeypatch.setattr(worker, "values_of_chief", lambda *_, **__: [1.0, 3.0, *divmod(step, 2**20)])

    def fetch() -> None:
        progress = checkpoint.Progress(epoch=3, step=step, history=[], identity={})
        checkpoint.save(run.checkpoints, model, progress, keep=1)

    context = WorkerContext(rank=1, strategy=tf.distribute.get_strategy(), fetch_storage=fetch)
    progress = worker._restore(model, {}, config, context, run)
    assert (progress.epoch, progress.step) == (3, step)
