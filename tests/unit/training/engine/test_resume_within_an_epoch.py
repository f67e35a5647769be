"""A training that stops between two steps and goes on in a new model equals one in one go."""

import importlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from stopping import Restore, Stop, variables

import annlib
from annlib.data.blocks import BlockWriter
from annlib.errors import ConfigError
from annlib.training.engine import StreamedData, compilation

session = importlib.import_module("annlib.training.engine.session")

rng = np.random.default_rng(3)
X, Y = rng.normal(size=(70, 4)).astype("float32"), rng.integers(0, 2, 70)
ARGUMENTS: dict[str, Any] = {"batch_size": 8, "validation_split": 0.2, "verbose": 0, "seed": 1, "epochs": 3}


def build() -> keras.Model:
    keras.utils.set_random_seed(2)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([*layers, keras.layers.Activation("sigmoid")])
    metrics = ["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.MeanSquaredError(name="mse")]
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="binary_crossentropy", metrics=metrics)
    model.optimizer.build(model.trainable_variables)
    return model


class StopAt(Stop):
    def __init__(self, epoch: int, step: int) -> None:
        super().__init__()
        self._at = (epoch, step)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if (self._epoch, batch + 1) == self._at:
            self.stop()


# Of the 24 steps of the training and its validation, 16 are left; XLA draws other dropout masks.
@pytest.mark.parametrize("break_even", [compilation.XLA_BREAK_EVEN_STEPS, 20])
def test_going_on_within_an_epoch_equals_training_in_one_go(monkeypatch: pytest.MonkeyPatch, break_even: int) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", break_even)
    monkeypatch.setattr(session, "FIRST_CHUNK_STEPS", 2)
    monkeypatch.setattr(session, "CHUNK_S", 0.0)
    undisturbed = build()
    expected = annlib.fit(undisturbed, X, Y, **ARGUMENTS).history
    stop = StopAt(1, 5)
    with pytest.raises(InterruptedError):
        annlib.fit(build(), X, Y, callbacks=[stop], **ARGUMENTS)
    model = build()
    for variable, value in zip(variables(model), stop.values, strict=True):
        variable.assign(value)
    received = annlib.fit(
        model, X, Y, initial_epoch=1, initial_step=5, callbacks=[Restore(stop.metrics)], **ARGUMENTS
    ).history
    for name, values in expected.items():
        assert received[name] == pytest.approx(values[1:], rel=1e-6), name
    for one, two in zip(undisturbed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-6)


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="initial_step"):
        annlib.fit(build(), X, Y, initial_step=-1, **ARGUMENTS)


@pytest.mark.slow
def test_going_on_within_a_streamed_epoch_equals_training_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FIRST_CHUNK_STEPS", 5)
    monkeypatch.setattr(session, "CHUNK_S", 0.0)
    x, y = rng.normal(size=(1003, 4)).astype("float32"), rng.integers(0, 2, 1003)
    with BlockWriter(tmp_path / "blocks") as writer:
        writer.append(x, y)
        # Windows of 16 batches.
        data = StreamedData(blocks=writer.finish(), window_bytes=128 * 24)
    arguments: dict[str, Any] = {"batch_size": 8, "verbose": 0, "seed": 1, "epochs": 3}
    undisturbed = build()
    expected = annlib.fit(undisturbed, data, **arguments).history
    # In the third window of the second epoch.
    stop = StopAt(1, 40)
    with pytest.raises(InterruptedError):
        annlib.fit(build(), data, callbacks=[stop], **arguments)
    model = build()
    for variable, value in zip(variables(model), stop.values, strict=True):
        variable.assign(value)
    received = annlib.fit(
        model, data, initial_epoch=1, initial_step=40, callbacks=[Restore(stop.metrics)], **arguments
    ).history
    for name, values in expected.items():
        assert received[name] == pytest.approx(values[1:], rel=1e-6), name
    for one, two in zip(undisturbed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-6)
