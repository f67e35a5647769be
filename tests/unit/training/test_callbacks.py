"""The run's callbacks: the best epoch's model, the state that survives a resume, TensorBoard's files."""

import json
import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import annlib
from annlib.errors import StorageError
from annlib.training import callback_state, tensorboard
from annlib.training.best import BestCheckpoint
from annlib.training.storage_patience import StoragePatience
from annlib.training.tensorboard import TensorBoard

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(48, 4)).astype("float32"), rng.integers(0, 2, 48)
STORAGE = StoragePatience(1.0)
ARGUMENTS: dict[str, Any] = {"batch_size": 16, "validation_split": 0.5, "verbose": 0, "seed": 1}


def build() -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")])
    model.compile(optimizer=keras.optimizers.SGD(0.5), loss="binary_crossentropy", metrics=["accuracy"])
    return model


@pytest.mark.parametrize(("monitor", "mode", "choose"), [("val_loss", "min", min), ("val_accuracy", "max", max)])
def test_the_best_file_holds_the_best_epochs_model(tmp_path: Path, monitor: str, mode: str, choose: Any) -> None:
    model = build()
    best = BestCheckpoint(tmp_path, monitor=monitor, mode=mode, every_s=1e9, storage=STORAGE, is_chief=True)
    history = annlib.fit(model, X, Y, epochs=12, callbacks=[best], **ARGUMENTS).history
    values = history[monitor]
    epoch = values.index(choose(values))
    assert json.loads((tmp_path / "best.json").read_text()) == {"epoch": epoch + 1, monitor: values[epoch]}
    saved = keras.saving.load_model(tmp_path / "best.keras").evaluate(X[24:], Y[24:], verbose=0, return_dict=True)
    assert saved["loss"] == pytest.approx(history["val_loss"][epoch], rel=1e-5)
    last = model.evaluate(X[24:], Y[24:], verbose=0, return_dict=True)
    assert last["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_other_workers_write_no_best_file(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, monitor="val_loss", mode="min", every_s=0.001, storage=STORAGE, is_chief=False)
    annlib.fit(build(), X, Y, epochs=2, callbacks=[best], **ARGUMENTS)
    assert best.best is not None
    assert list(tmp_path.iterdir()) == []


class _Restore(keras.callbacks.Callback):
    def __init__(self, others: list[Any], state: Any) -> None:
        super().__init__()
        self._others, self._state = others, state

    def on_train_begin(self, logs: Any = None) -> None:
        callback_state.restore(self._others, *self._state)


def callbacks() -> list[Any]:
    return [
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=3, min_delta=0.0),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=8, restore_best_weights=True),
    ]


def test_patience_and_best_weights_survive_a_resume() -> None:
    undisturbed = build()
    expected = annlib.fit(undisturbed, X, Y, epochs=200, callbacks=callbacks(), **ARGUMENTS).history
    assert len(expected["loss"]) < 200

    model, first = build(), callbacks()
    # EarlyStopping would put the best weights back at the end of this part, which a stopped process does not reach.
    last_weights = {}
    keep = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: last_weights.update(now=model.get_weights()))
    half = len(expected["loss"]) - 4
    annlib.fit(model, X, Y, epochs=half, callbacks=[*first, keep], **ARGUMENTS)
    state, arrays = callback_state.collect(first)
    state = json.loads(json.dumps(state))
    model.set_weights(last_weights["now"])
    second = callbacks()
    resumed = annlib.fit(
        model,
        X,
        Y,
        initial_epoch=half,
        epochs=200,
        callbacks=[*second, _Restore(second, (state, arrays))],
        **ARGUMENTS,
    ).history
    assert resumed["val_loss"] == expected["val_loss"][half:]
    assert resumed["learning_rate"] == expected["learning_rate"][half:]
    for ours, theirs in zip(model.get_weights(), undisturbed.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_state_is_found_where_a_callback_more_goes_on() -> None:
    before = keras.callbacks.EarlyStopping(patience=8)
    before.best, before.best_weights = 0.25, [np.ones(2)]
    state, arrays = callback_state.collect([before])
    after = keras.callbacks.EarlyStopping(patience=8)
    callback_state.restore([keras.callbacks.ReduceLROnPlateau(), after], state, arrays)
    assert after.best == 0.25
    np.testing.assert_array_equal(after.best_weights, [np.ones(2)])


def test_each_of_two_callbacks_of_a_class_gets_its_own_state() -> None:
    patience = [keras.callbacks.EarlyStopping(patience=8) for _ in range(4)]
    patience[0].wait, patience[1].wait = 3, 5
    callback_state.restore(patience[2:], *callback_state.collect(patience[:2]))
    assert [each.wait for each in patience[2:]] == [3, 5]


def test_arguments_of_the_constructor_are_not_state() -> None:
    patient = keras.callbacks.EarlyStopping(patience=50)
    state, arrays = callback_state.collect([keras.callbacks.EarlyStopping(patience=2)])
    callback_state.restore([patient], state, arrays)
    assert patient.patience == 50


def test_tensorboard_gets_every_epoch_under_keras_names(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, X, histogram_freq=2, storage=STORAGE)
    rows = []

    def add(epoch: int, logs: Any) -> None:
        rows.append({"epoch": epoch + 1, **logs, "learning_rate": 0.5, "seconds": 1.0, "samples_per_s": 24.0})
        board.add(rows[-1])

    adding = keras.callbacks.LambdaCallback(on_epoch_end=add)
    annlib.fit(build(), X, Y, epochs=4, callbacks=[board, adding], **ARGUMENTS)
    found = {}
    for split in ("train", "validation"):
        events = EventAccumulator(str(tmp_path / split), size_guidance={"tensors": 0})
        events.Reload()
        found[split] = events
    tags = set(found["train"].Tags()["tensors"])
    assert {"epoch_loss", "epoch_accuracy", "epoch_learning_rate", "samples_per_s"} <= tags
    assert set(found["validation"].Tags()["tensors"]) == {"epoch_loss", "epoch_accuracy"}
    assert found["train"].Tags()["graph"]
    points = found["validation"].Tensors("epoch_loss")
    assert [point.step for point in points] == [1, 2, 3, 4]
    values = [make_ndarray(point.tensor_proto) for point in points]
    np.testing.assert_allclose(values, [row["val_loss"] for row in rows], rtol=1e-6)
    histograms = [tag for tag in tags if tag.endswith(("kernel", "bias"))]
    assert len(histograms) == 4
    assert [point.step for point in found["train"].Tensors(histograms[0])] == [2, 4]


def _steps(directory: Path) -> list[int]:
    events = EventAccumulator(str(directory))
    events.Reload()
    return [point.step for point in events.Tensors("epoch_loss")]


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TensorBoard:
    monkeypatch.setattr(tensorboard, "WRITE_EVERY_S", 0.0)
    board = TensorBoard(tmp_path, X, histogram_freq=0, storage=STORAGE)
    board.set_model(build())
    board.on_train_begin()
    return board


def test_events_of_a_full_disk_are_written_when_there_is_room(
    board: TensorBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board.add({"epoch": 1, "loss": 0.5})
    whole = Path.open

    def half(path: Path, mode: str) -> Any:
        file = whole(path, mode)

        def write(content: bytes) -> None:
            file.raw.write(content[: len(content) // 2])
            raise OSError(28, "No space left on device")

        full = mock.MagicMock(wraps=file)
        full.__enter__.return_value.configure_mock(tell=file.tell, truncate=file.truncate, write=write)
        return full

    monkeypatch.setattr(Path, "open", half)
    board.add({"epoch": 2, "loss": 0.4})
    monkeypatch.setattr(Path, "open", whole)
    (file,) = (tmp_path / "train").iterdir()
    half_written = file.stat().st_size
    board.add({"epoch": 3, "loss": 0.3})
    board.on_train_end()
    assert file.stat().st_size > half_written
    assert _steps(tmp_path / "train") == [1, 2, 3]


def test_training_goes_on_when_somebody_removes_the_events(board: TensorBoard, tmp_path: Path) -> None:
    board.add({"epoch": 1, "loss": 0.5})
    shutil.rmtree(tmp_path / "train")
    board.add({"epoch": 2, "loss": 0.4})
    assert _steps(tmp_path / "train") == [2]


def test_event_files_that_cannot_be_opened_are_an_error_of_the_storage(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("in the way")
    board = TensorBoard(tmp_path, X, histogram_freq=0, storage=StoragePatience(0.1))
    with pytest.raises(StorageError, match="--storage-timeout-s waits longer"):
        annlib.fit(build(), X, Y, epochs=1, callbacks=[board], **ARGUMENTS)
