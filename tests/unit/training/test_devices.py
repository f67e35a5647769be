import functools
from typing import Any

import pytest
import tensorflow as tf

from annlib.training import devices
from annlib.training.devices import multi_worker_strategy, prepare_gpus, use_threads


@pytest.mark.parametrize("use_gpu", [False, True])
def test_threads_are_those_of_the_cpus_alone(monkeypatch: pytest.MonkeyPatch, use_gpu: bool) -> None:
    counts: dict[str, int] = {}
    for name in ("set_intra_op_parallelism_threads", "set_inter_op_parallelism_threads"):
        monkeypatch.setattr(tf.config.threading, name, functools.partial(counts.__setitem__, name))
    use_threads(3, use_gpu=use_gpu)
    of_operations = {} if use_gpu else {"set_inter_op_parallelism_threads": 3}
    assert counts == {"set_intra_op_parallelism_threads": 3, **of_operations}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What TensorFlow is told about its two GPUs."""
    told: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0", f"{kind}:1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *arguments: told.append(("visible", *arguments)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *arguments: told.append(arguments))
    return told


def test_gpus_take_the_memory_that_they_need(calls: list[tuple[Any, ...]]) -> None:
    assert prepare_gpus(given=True)
    assert calls == [("GPU:0", True), ("GPU:1", True)]


def test_the_gpus_of_others_are_hidden(calls: list[tuple[Any, ...]]) -> None:
    assert not prepare_gpus(given=False)
    assert calls == [("visible", [], "GPU")]


def test_a_machine_without_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda _: [])
    assert not prepare_gpus(given=True)


@pytest.mark.parametrize(("has_gpu", "expected"), [(True, "NCCL"), (False, "AUTO")])
def test_gradients_go_by_nccl_where_there_are_gpus(
    monkeypatch: pytest.MonkeyPatch, has_gpu: bool, expected: str
) -> None:
    made = []
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda **options: made.append(options))
    prepared = []
    monkeypatch.setattr(devices, "prepare_messages", lambda: prepared.append("messages"))
    multi_worker_strategy(has_gpu=has_gpu)
    assert prepared == ([] if has_gpu else ["messages"])
    assert [options["communication_options"].implementation.value for options in made] == [expected]
