"""Gradients that are accumulated in one process, against `keras.Model.fit` on whole batches."""

from typing import Any

import keras
import numpy as np
import pytest

import annlib
from annlib.errors import ConfigError
from annlib.training.engine import StepOptions, StreamedData, compilation

rng = np.random.default_rng(3)
X, Y = rng.normal(size=(103, 6)).astype("float32"), rng.integers(0, 3, 103)
ARGUMENTS: dict[str, Any] = {"batch_size": 16, "epochs": 3, "shuffle": False, "verbose": 0}


def build() -> keras.Model:
    keras.utils.set_random_seed(1)
    hidden = keras.layers.Dense(8, activation="tanh", kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((6,)), hidden, keras.layers.Dense(3, activation="softmax")])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# XLA compiles each of the micro-batches, which takes long for many.
@pytest.mark.parametrize(
    ("number", "steps"), [(3, 0), *(pytest.param(number, 10**9, marks=pytest.mark.slow) for number in (2, 16, 50))]
)
def test_the_curve_is_that_of_whole_batches(monkeypatch: pytest.MonkeyPatch, number: int, steps: int) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", steps)
    expected, received = build(), build()
    validation = {"validation_data": (X[:20], Y[:20])}
    reference = expected.fit(X, Y, **ARGUMENTS, **validation).history
    options = StepOptions(gradient_accumulation=number)
    history = annlib.fit(received, X, Y, **ARGUMENTS, **validation, options=options).history
    for name, values in reference.items():
        assert history[name] == pytest.approx(values, rel=1e-4), name
    for one, other in zip(expected.get_weights(), received.get_weights(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 10**9])
def test_an_embedding_whose_rows_are_used_several_times(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", steps)

    def model() -> keras.Model:
        keras.utils.set_random_seed(1)
        found = keras.Sequential([keras.Input((2,)), keras.layers.Embedding(50, 3), keras.layers.Flatten()])
        found.add(keras.layers.Dense(1))
        found.compile(optimizer="adam", loss="mse")
        return found

    codes = rng.integers(0, 50, (103, 2))
    expected, received = model(), model()
    reference = expected.fit(codes, Y, **ARGUMENTS).history["loss"]
    options = StepOptions(gradient_accumulation=4)
    assert annlib.fit(received, codes, Y, **ARGUMENTS, options=options).history["loss"] == pytest.approx(reference)


def test_a_train_step_of_ones_own_is_refused() -> None:
    class Own(keras.Sequential):
        def train_step(self, data: Any) -> Any:
            return super().train_step(data)

    model = Own([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile(loss="mse")
    with pytest.raises(ConfigError, match="Own has a train_step of its own: expected the standard one"):
        annlib.fit(model, X, X[:, :3], options=StepOptions(gradient_accumulation=2), verbose=0)


def test_replicas_do_not_step_alone_on_streamed_rows() -> None:
    data = StreamedData(blocks=[])  # type: ignore[arg-type]  # refused before anything is read
    with pytest.raises(ConfigError, match="sync_every=4 does not fit StreamedData: expected 1"):
        annlib.fit(build(), data, options=StepOptions(sync_every=4), verbose=0)
