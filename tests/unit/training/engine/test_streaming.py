"""Training on samples that are read window by window, against training on arrays in the same order."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import annlib
from annlib.data.blocks import Blocks, BlockWriter
from annlib.data.windows import WindowPlan
from annlib.errors import ConfigError, StorageError
from annlib.training.engine import StreamedData

NUM_ROWS, BATCH_SIZE, SEED = 1003, 8, 5
rng = np.random.default_rng(3)
X, Y = rng.normal(size=(NUM_ROWS, 4)).astype("float32"), rng.integers(0, 2, NUM_ROWS).astype("int32")
# Windows of 16 batches of 8 rows: 8 windows, the last one with a batch of 3 rows.
WINDOW_BYTES = 128 * 20


@pytest.fixture
def blocks(tmp_path: Path) -> Blocks:
    return write(tmp_path / "blocks", X, Y)


def write(directory: Path, *arrays: np.ndarray) -> Blocks:
    with BlockWriter(directory) as writer:
        writer.append(*arrays)
        return writer.finish()


def order(epoch: int) -> np.ndarray:
    plan = WindowPlan(num_rows=NUM_ROWS, batch_size=BATCH_SIZE, most_rows=WINDOW_BYTES // 20, seed=SEED)
    assert plan.num_windows == 8
    windows = [plan.window(epoch, index) for index in range(plan.num_windows)]
    rows = [np.concatenate([np.arange(*each) for each in window.ranges])[window.order()] for window in windows]
    return np.concatenate(rows)


def plain() -> keras.Model:
    """Without dropout, whose masks Keras' own fit draws in another way."""
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")])
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="binary_crossentropy", metrics=["accuracy"])
    return model


def test_the_losses_are_those_of_keras_on_arrays_in_the_same_order(blocks: Blocks) -> None:
    streamed, reference = plain(), plain()
    data = StreamedData(blocks=blocks, window_bytes=WINDOW_BYTES)
    received = annlib.fit(
        streamed, data, batch_size=BATCH_SIZE, epochs=3, seed=SEED, verbose=0, validation_data=data
    ).history
    for epoch in range(3):
        rows = order(epoch)
        expected = reference.fit(
            X[rows], Y[rows], batch_size=BATCH_SIZE, shuffle=False, verbose=0, validation_data=(X, Y)
        ).history
        for name, values in expected.items():
            assert received[name][epoch] == pytest.approx(values[0], rel=1e-4), name
    for one, two in zip(reference.get_weights(), streamed.get_weights(), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-4)


def test_evaluate_reads_every_row_once(blocks: Blocks) -> None:
    model = plain()
    data = StreamedData(blocks=blocks, window_bytes=WINDOW_BYTES)
    received = annlib.evaluate(model, data, batch_size=BATCH_SIZE, return_dict=True)
    assert received == pytest.approx(model.evaluate(X, Y, verbose=0, return_dict=True), rel=1e-5)


def test_weights_and_several_inputs(tmp_path: Path) -> None:
    weights = rng.uniform(size=NUM_ROWS).astype("float32")
    blocks = write(tmp_path / "blocks", X, Y.astype("float32"), weights)
    inputs = [keras.Input((1,)), keras.Input((3,))]
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.concatenate(inputs)))
    model.compile(loss="mse", weighted_metrics=["mae"])
    data = StreamedData(blocks=blocks, window_bytes=WINDOW_BYTES, model_inputs=lambda x: (x[:, :1], x[:, 1:]))
    received = annlib.evaluate(model, data, return_dict=True)
    expected = model.evaluate((X[:, :1], X[:, 1:]), Y, sample_weight=weights, verbose=0, return_dict=True)
    assert received == pytest.approx(expected, rel=1e-5)


def test_targets_beside_streamed_data_are_refused(blocks: Blocks) -> None:
    data = StreamedData(blocks=blocks, window_bytes=WINDOW_BYTES)
    for arguments in ({"y": Y}, {"sample_weight": Y}, {"validation_split": 0.1}, {"class_weight": {0: 1.0}}):
        with pytest.raises(ConfigError, match="cannot be given with StreamedData"):
            annlib.fit(plain(), data, **arguments)


def test_an_array_that_goes_away_ends_it_with_its_error(blocks: Blocks) -> None:
    data = StreamedData(blocks=blocks, window_bytes=WINDOW_BYTES)

    class Remove(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            (blocks.directory / "array-0.bin").unlink(missing_ok=True)

    with pytest.raises(StorageError, match="received No such file"):
        annlib.fit(plain(), data, batch_size=BATCH_SIZE, epochs=3, callbacks=[Remove()], verbose=0)
