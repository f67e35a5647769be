"""A validation that takes long comes in parts, between which a training can stop and go on."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from stopping import Restore, Stop, variables

import annlib
from annlib.data.blocks import BlockWriter
from annlib.training.engine import StreamedData, validates_in_parts

session = importlib.import_module("annlib.training.engine.session")

rng = np.random.default_rng(3)
X, Y = rng.normal(size=(70, 4)).astype("float32"), rng.integers(0, 2, 70)
X_VALID, Y_VALID = rng.normal(size=(30, 4)).astype("float32"), rng.integers(0, 2, 30)
# 9 steps of training, 8 of validation; the last ones are smaller.
ARGUMENTS: dict[str, Any] = {"batch_size": 8, "validation_batch_size": 4, "verbose": 0, "seed": 1, "epochs": 3}
NUM_STEPS, NUM_PARTS = 9, 8


def build() -> keras.Model:
    keras.utils.set_random_seed(2)
    layers = [keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.3), keras.layers.Dense(1)]
    model = keras.Sequential([*layers, keras.layers.Activation("sigmoid")])
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss="binary_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


def build_replicated() -> keras.Model:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        return build()


def streamed(directory: Path, x: Any, y: Any, window_bytes: int) -> StreamedData:
    with BlockWriter(directory) as writer:
        writer.append(x, y)
        return StreamedData(blocks=writer.finish(), window_bytes=window_bytes)


class Parts(Stop):
    """Notes the last step of each part; raises after some steps of an epoch's validation, with what a checkpoint holds.

    With `between=True` it has a hook for which the validation does not belong to the call of the last steps.
    """

    def __init__(self, *, stop: tuple[int, int] | None = None, between: bool = False) -> None:
        super().__init__()
        self.parts: list[list[int]] = []
        self._stop = stop
        if between:
            self.on_test_batch_begin = lambda batch, logs=None: None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch
        self.parts.append([])

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.parts[-1].append(batch)
        if (self._epoch, batch + 1) == self._stop:
            self.stop()


OTHERS = ("between", "replicated", "streamed validation", "streamed training")


@pytest.fixture(params=["arrays", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def case(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Callable[[], keras.Model], tuple[Any, ...], dict[str, Any], bool]:
    """Gives how to build the model, the data, other arguments, and whether a hook is between."""
    monkeypatch.setattr(session, "FIRST_CHUNK_STEPS", 2)
    monkeypatch.setattr(session, "CHUNK_S", 0.0)
    data: tuple[Any, ...] = (X, Y)
    validation: Any = (X_VALID, Y_VALID)
    if request.param == "streamed training":
        # Windows of 3 batches, so that the last one is full, and all rows of a batch.
        data = (streamed(tmp_path / "train", X[:72], Y[:72], 24 * 24),)
    if request.param == "streamed validation":
        validation = streamed(tmp_path / "validation", X_VALID, Y_VALID, 6 * 24)
    make = build_replicated if request.param == "replicated" else build
    return make, data, {**ARGUMENTS, "validation_data": validation}, request.param == "between"


def test_parts_have_the_metrics_of_the_whole(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make, data, arguments, between = case
    parts = Parts(between=between)
    received = annlib.fit(make(), *data, callbacks=[parts], **arguments).history
    assert parts.parts == [list(range(NUM_PARTS))] * 3
    monkeypatch.setattr(session, "CHUNK_S", 1e9)
    parts = Parts(between=between)
    expected = annlib.fit(make(), *data, callbacks=[parts], **arguments).history
    assert parts.parts[1:] == [[NUM_PARTS - 1]] * 2
    for name, values in expected.items():
        assert received[name] == pytest.approx(values, rel=1e-6), name


@pytest.mark.parametrize("part", [1, pytest.param(NUM_PARTS, marks=pytest.mark.slow)])
def test_going_on_within_a_validation_equals_training_in_one_go(case: Any, part: int) -> None:
    make, data, arguments, between = case
    undisturbed = make()
    expected = annlib.fit(undisturbed, *data, callbacks=[Parts(between=between)], **arguments).history
    stop, model = Parts(stop=(1, part), between=between), make()
    with pytest.raises(InterruptedError):
        annlib.fit(model, *data, callbacks=[stop], **arguments)
    assert not validates_in_parts(model)
    model = make()
    for variable, value in zip(variables(model), stop.values, strict=True):
        variable.assign(value)
    others = [Restore(stop.metrics), Parts(between=between)]
    received = annlib.fit(model, *data, initial_epoch=1, initial_step=NUM_STEPS, callbacks=others, **arguments).history
    for name, values in expected.items():
        assert received[name] == pytest.approx(values[1:], rel=1e-6), name
    for one, two in zip(undisturbed.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-6)
