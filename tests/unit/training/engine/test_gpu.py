"""What can be known of the way on a GPU where there is none: TensorFlow tells which kernels it has for one."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import kernels

import annlib
from annlib.training.engine import compilation, program
from annlib.training.engine.arrays import as_dataset
from annlib.training.engine.options import StepOptions

GRAPH = compilation.Compilation(mode="graph", reason="the workers' way")
X = np.random.default_rng(1).integers(0, 256, (100, 6, 6)).astype(np.uint8)
Y = np.random.default_rng(2).integers(0, 10, 100).astype(np.uint8)


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compilation", "local"):
        monkeypatch.setattr(f"annlib.training.engine.{module}.has_gpu", lambda: True)


def make_model(strategy: tf.distribute.Strategy, policy: str = "float32") -> keras.Model:
    keras.utils.set_random_seed(3)
    with strategy.scope():
        layers = [
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(30, "relu", dtype=policy),
            keras.layers.BatchNormalization(dtype=policy),
            keras.layers.Dropout(0.2, dtype=policy),
            keras.layers.Dense(10, "softmax"),
        ]
        model = keras.Sequential([keras.Input((6, 6)), *layers])
        optimizer = keras.optimizers.Adam()
        if policy == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def without_gpu_kernel(graph: tf.Graph) -> list[str]:
    """Returns the operations outside of XLA that have no kernel on a GPU for their types."""
    definition = graph.as_graph_def()
    functions = {function.signature.name: function for function in definition.library.function}
    nodes = list(definition.node)
    for function in functions.values():
        if not function.attr["_XlaMustCompile"].b:
            nodes += function.node_def
    assert len(nodes) > 100
    return [f"{node.op} {node.name}" for node in nodes if node.op not in functions and not has_gpu_kernel(node)]


def has_gpu_kernel(node: Any) -> bool:
    return any(
        kernel.device_type in ("GPU", "DEFAULT")
        and all(
            not node.attr[constraint.name].type
            or node.attr[constraint.name].type in constraint.allowed_values.list.type
            for constraint in kernel.constraint
        )
        for kernel in kernels.get_registered_kernels_for_op(node.op).kernel
    )


STRATEGIES = [
    pytest.param(tf.distribute.get_strategy, id="local"),
    pytest.param(lambda: tf.distribute.MirroredStrategy(["CPU:0"]), id="replicated", marks=pytest.mark.slow),
]


def trace(strategy: tf.distribute.Strategy, policy: str = "float32") -> tf.Graph:
    """Returns the graph of some epochs with their validation."""
    model = make_model(strategy, policy)
    data = as_dataset(X, Y)
    program.build(model, data)
    training = program.TrainingProgram(model, 32, 32, max_epochs=3, compilation=GRAPH, options=StepOptions())
    orders, what = tf.TensorSpec([3, len(X)], tf.int32), tf.TensorSpec([6], tf.int32)
    return training._function._concrete((data, data, orders, what)).graph


@pytest.mark.parametrize("get_strategy", STRATEGIES)
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.usefixtures("fake_gpu")
def test_all_of_a_step_stays_on_the_gpu(get_strategy: Any, policy: str) -> None:
    assert without_gpu_kernel(trace(get_strategy(), policy)) == []


def test_images_of_8_bits_would_travel_to_the_cpu_without_xla() -> None:
    found = {entry.split()[0] for entry in without_gpu_kernel(trace(tf.distribute.get_strategy()))}
    assert found == {"GatherV2", "Slice"}


@pytest.mark.parametrize("get_strategy", STRATEGIES)
def test_rows_taken_by_xla_are_the_same(get_strategy: Any, request: pytest.FixtureRequest) -> None:
    strategy = get_strategy()
    histories = []
    for faked in (False, True):
        if faked:
            request.getfixturevalue("fake_gpu")
        model = make_model(strategy)
        history = annlib.fit(model, X, Y, epochs=2, validation_data=(X[:40], Y[:40]), verbose=0).history
        histories.append({**history, "evaluate": annlib.evaluate(model, X[:41], Y[:41])})
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values, rel=1e-6)
