import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from keras import layers

import annlib
from annlib.training.engine import compilation, small_loops


def matrix(rows: int, columns: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)


# Columns that fill vector registers and such that do not, on either side; the last batch of an epoch; one column.
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(32, 8, 30), (26, 30, 30), (32, 30, 16), (1, 16, 8), (32, 9, 1)]
)
def test_a_dense_layer_and_its_gradients_are_those_of_numpy(
    monkeypatch: pytest.MonkeyPatch, rows: int, inputs: int, outputs: int
) -> None:
    dense = layers.Dense(outputs)
    dense.build((None, inputs))
    x, upstream = matrix(rows, inputs, 1), matrix(rows, outputs, 2)
    called: list[Any] = []
    product = small_loops._product
    monkeypatch.setattr(small_loops, "_product", lambda *given: called.append(given) or product(*given))

    @tf.function(jit_compile=True, autograph=False)  # type: ignore[untyped-decorator]
    def run(x: tf.Tensor, upstream: tf.Tensor) -> Any:
        with tf.GradientTape() as tape, small_loops.products():
            tape.watch(x)
            y = dense(x)
        return y, *tape.gradient(y, [x, dense.kernel.value], output_gradients=upstream)

    with small_loops.tracing("function"):
        found = run(tf.constant(x), tf.constant(upstream))
    kernel = dense.kernel.numpy().astype(np.float64)
    expected = x @ kernel, upstream @ kernel.T, x.T.astype(np.float64) @ upstream
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert len(called) == (outputs > 1)


def test_keras_multiplies_as_before_after_an_error() -> None:
    before = keras.src.backend.numpy.matmul

    def fail() -> None:
        assert keras.src.backend.numpy.matmul is not before
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), small_loops.tracing("function"), small_loops.products():
        fail()
    assert keras.src.backend.numpy.matmul is before
    with small_loops.products():
        assert keras.src.backend.numpy.matmul is before


class OwnDense(layers.Dense):  # type: ignore[misc]
    """A layer of a user's own."""


def built(*parts: layers.Layer, inputs: tuple[int, ...] = (8,)) -> keras.Model:
    return keras.Sequential([keras.Input(inputs), *parts])


def two_inputs() -> keras.Model:
    wide, deep = keras.Input((5,)), keras.Input((6,))
    hidden = layers.Dense(30, activation="relu")(layers.Normalization(mean=0.0, variance=1.0)(deep))
    return keras.Model([wide, deep], layers.Dense(1)(layers.concatenate([wide, hidden])))


def with_a_function() -> keras.Model:
    x = keras.Input((8,))
    return keras.Model(x, layers.Dense(1)(keras.ops.matmul(x, np.eye(8, dtype="float32"))))


@pytest.mark.parametrize(
    ("make", "batch_size", "expected"),
    [
        (lambda: built(layers.Dense(32, activation="relu"), layers.Dropout(0.1), layers.Dense(1)), 32, True),
        (two_inputs, 32, True),
        (lambda: built(built(layers.Dense(4)), layers.Dense(1)), 8, True),
        (lambda: built(layers.Dense(3)), 33, False),
        (lambda: built(layers.Dense(33), layers.Dense(1)), 32, False),
        (lambda: built(layers.Dense(2), inputs=(33,)), 32, False),
        (lambda: built(layers.Dense(1), inputs=(100,)), 32, True),
        (lambda: built(layers.Dense(3), inputs=(5, 8)), 32, False),
        (lambda: built(layers.Dense(3, dtype="mixed_bfloat16")), 32, False),
        (lambda: built(OwnDense(3)), 32, False),
        (with_a_function, 32, False),
        (lambda: built(with_a_function()), 32, False),
        (lambda: built(layers.Lambda(lambda x: keras.ops.matmul(x, keras.ops.transpose(x)))), 32, False),
    ],
)
def test_which_models_are_small(make: Any, batch_size: int, expected: bool) -> None:
    assert small_loops.is_small(make(), batch_size=batch_size, num_steps=2500) is expected


def test_a_deep_model_needs_many_steps() -> None:
    model = built(*(layers.Dense(8) for _ in range(6)))
    assert not small_loops.is_small(model, batch_size=32, num_steps=20_000)
    assert small_loops.is_small(model, batch_size=32, num_steps=200_000)


def test_lora_makes_a_model_no_small_one() -> None:
    model = built(layers.Dense(8), layers.Dense(1))
    model.layers[0].enable_lora(2)
    assert not small_loops.is_small(model, batch_size=32, num_steps=2500)


def mlp() -> keras.Model:
    keras.utils.set_random_seed(4)
    hidden = [layers.Dense(30, activation="relu"), layers.BatchNormalization(), layers.Dense(10, activation="tanh")]
    model = built(*hidden, layers.Dense(3, activation="softmax"))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_a_small_model_learns_what_keras_teaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0)
    x, y = matrix(330, 8, 5), np.random.default_rng(6).integers(0, 3, 330)
    data = {"epochs": 5, "shuffle": False, "validation_data": (x[:50], y[:50]), "verbose": 0}
    ours, theirs = mlp(), mlp()
    assert compilation.choose_compilation(ours, batch_size=32, num_steps=1).loops == "function"
    history = annlib.fit(ours, x, y, **data).history
    expected = theirs.fit(x, y, **data).history
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, err_msg=name)


PROGRAM = """
import sys, keras, numpy as np, annlib
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(int(sys.argv[1]), "relu"), keras.layers.Dense(1)])
model.compile("sgd", "mse")
rows = int(sys.argv[2])
annlib.fit(model, np.ones((rows, 8)), np.ones(rows), epochs=3000, verbose=0)
"""


# With fewer rows than a batch there is a loop over epochs alone.
@pytest.mark.parametrize(("neurons", "rows", "calls"), [(32, 96, True), (33, 96, False), (33, 20, False)])
def test_xla_compiles_the_loop_of_a_small_model_as_one_function(
    tmp_path: Path, neurons: int, rows: int, calls: bool
) -> None:
    environment = {**os.environ, "XLA_FLAGS": f"--xla_dump_to={tmp_path} --xla_dump_hlo_as_text"}
    subprocess.run([sys.executable, "-c", PROGRAM, str(neurons), str(rows)], check=True, env=environment)
    (training,) = tmp_path.glob("*run_epochs*.cpu_after_optimizations.txt")
    assert ('xla_cpu_small_call="true"' in training.read_text()) is calls
