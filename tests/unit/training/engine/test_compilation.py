import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

import annlib
from annlib import compilation_cache
from annlib.training.engine import compilation
from annlib.training.engine.compilation import Compilation, Compiled


def in_python(x: tf.Tensor) -> tf.Tensor:
    """Twice x, by an operation that XLA does not have."""
    return tf.reshape(tf.numpy_function(lambda value: value * 2, [x], tf.float32), x.shape)


def test_what_xla_does_not_have_runs_as_a_plain_graph_and_the_cache_stays(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cleared: list[bool] = []
    monkeypatch.setattr(compilation_cache, "clear", lambda: cleared.append(True))
    compiled = Compiled(in_python, Compilation(mode="xla", reason="of the test"))
    function = compiled.for_types(tf.TensorSpec([2], tf.float32))
    assert [function(tf.constant([1.0, 2.0])).numpy().tolist() for _ in range(2)] == [[2.0, 4.0]] * 2
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "XLA does not run this model, the plain graph takes over"
    ]
    assert not cleared


def num_graphs_of_training() -> int:
    gc.collect()
    graphs = [found for found in gc.get_objects() if isinstance(found, tf.Graph)]
    return sum(getattr(graph, "name", "").startswith("_run_epochs") for graph in graphs)


@pytest.mark.slow
def test_graphs_for_other_numbers_of_rows_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "SIGNATURES_KEPT", 2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    before = num_graphs_of_training()
    for rows in range(10, 15):
        annlib.fit(model, np.ones((rows, 1)), np.ones((rows, 1)), verbose=0)
    assert num_graphs_of_training() - before == 2
