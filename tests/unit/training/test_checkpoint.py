"""Checkpoints: what is saved comes back exactly; damaged ones are passed over; other runs' ones are refused."""

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import annlib
from annlib.config import RunConfig
from annlib.data import load
from annlib.errors import CheckpointError
from annlib.training import checkpoint
from annlib.training.checkpoint import Progress, find_resumable, restore

IDENTITY = {"workload": "digits", "seed": 42}
X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
Y = X.sum(axis=1, keepdims=True)


def build(units: int = 5) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss="mse")
    model.optimizer.build(model.trainable_variables)
    return model


def progress(epoch: int) -> Progress:
    return Progress(epoch=epoch, history=[{"epoch": e + 1, "loss": 0.5} for e in range(epoch)], identity=IDENTITY)


def save(directory: Path, model: keras.Model, progress: Progress) -> Path:
    return checkpoint.save(directory, model, progress, keep=2)


def fit(model: keras.Model, first: int, last: int) -> dict[str, Any]:
    arguments = {"batch_size": 16, "seed": 1, "verbose": 0}
    history: dict[str, Any] = annlib.fit(model, X, Y, initial_epoch=first, epochs=last, **arguments).history
    return history


def test_training_on_from_a_checkpoint_equals_training_in_one_go(tmp_path: Path) -> None:
    keras.utils.set_random_seed(5)
    first = build()
    fit(first, 0, 2)
    save(tmp_path, first, progress(2))
    expected = fit(first, 2, 4)
    second = build()
    restored = restore(tmp_path, second, IDENTITY)
    assert restored == progress(2)
    assert fit(second, 2, 4)["loss"] == expected["loss"]
    for one, two in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_nothing_is_restored_where_nothing_is(tmp_path: Path) -> None:
    assert restore(tmp_path / "none", build(), IDENTITY) is None
    assert find_resumable(tmp_path / "none", IDENTITY) == (None, [])


def test_the_newest_two_are_kept_and_no_temporary_file(tmp_path: Path) -> None:
    model = build()
    for epoch in (1, 2, 3, 10, 3):
        save(tmp_path, model, progress(epoch))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00003", "epoch-00010"]


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_are_kept_as_asked_for(tmp_path: Path, keep: int) -> None:
    model = build()
    for epoch in range(1, 6):
        checkpoint.save(tmp_path, model, progress(epoch), keep=keep)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"epoch-{e:05d}" for e in range(6 - keep, 6)]


def test_a_save_that_fails_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    save(tmp_path, model, progress(1))

    def no_space(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", no_space)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, model, progress(2))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00001"]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, Path.unlink])
@pytest.mark.parametrize("file", ["state.npz", "model.keras", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, file: str, damage: Callable[[Path], None]) -> None:
    model = build()
    save(tmp_path, model, progress(1))
    newest = save(tmp_path, model, progress(2))
    damage(newest / file)
    restored = restore(tmp_path, build(), IDENTITY)
    assert restored is not None
    assert restored.epoch == 1
    assert find_resumable(tmp_path, IDENTITY) == (progress(1), [newest])


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT_VERSION", 99)
        save(tmp_path, build(), progress(1))
    with pytest.raises(CheckpointError, match="expected version 2, received 99"):
        find_resumable(tmp_path, IDENTITY)


def test_a_digit_changed_in_the_manifest_is_found(tmp_path: Path) -> None:
    path = save(tmp_path, build(), progress(1)) / "manifest.json"
    path.write_text(path.read_text().replace('"loss": 0.5', '"loss": 0.6'))
    assert find_resumable(tmp_path, IDENTITY) == (None, [path.parent])


def test_a_checkpoint_within_an_epoch_comes_after_that_of_the_epoch_before(tmp_path: Path) -> None:
    model = build()
    for step in (0, 9, 10):
        checkpoint.save(tmp_path, model, dataclasses.replace(progress(2), step=step), keep=9)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "epoch-00002",
        "epoch-00002-step-000000009",
        "epoch-00002-step-000000010",
    ]
    restored = restore(tmp_path, build(), IDENTITY)
    assert restored is not None
    assert (restored.epoch, restored.step) == (2, 10)


def test_the_identity_tells_models_of_the_same_shapes_apart() -> None:
    config = RunConfig(workload="digits", epochs=1, global_batch_size=8, learning_rate=0.1)
    data = load("digits")
    found = []
    for activation in ("relu", "tanh", "relu"):
        keras.utils.clear_session()
        layers = [keras.Input((4,)), keras.layers.Dense(3, activation), keras.layers.Dense(1)]
        found.append(checkpoint.identity(config, data, keras.Sequential(layers))["model"])
    assert found[0] == found[2] != found[1]


def test_a_step_that_is_computed_in_another_way_is_refused(tmp_path: Path) -> None:
    values: dict[str, Any] = {"workload": "digits", "epochs": 1, "global_batch_size": 8, "learning_rate": 0.1}
    plain = checkpoint.identity(RunConfig(**values), load("digits"))
    alone = checkpoint.identity(RunConfig(**values, num_workers=2, sync_every=4), load("digits"))
    assert "sync_every" not in plain
    for name, identity in (("plain", plain), ("alone", alone)):
        save(tmp_path / name, build(), dataclasses.replace(progress(1), identity={**identity, "model": "m"}))
        find_resumable(tmp_path / name, identity)
    with pytest.raises(CheckpointError, match=r"made with sync_every=\(default\): expected sync_every=4"):
        find_resumable(tmp_path / "plain", alone)
    with pytest.raises(CheckpointError, match=r"made with sync_every=4: expected sync_every=\(default\)"):
        find_resumable(tmp_path / "alone", plain)


def test_another_seed_is_refused(tmp_path: Path) -> None:
    save(tmp_path, build(), progress(1))
    with pytest.raises(CheckpointError, match="made with seed=42: expected seed=43"):
        find_resumable(tmp_path, {**IDENTITY, "seed": 43})


def test_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path, build(), progress(1))
    with pytest.raises(CheckpointError, match="of another model"):
        restore(tmp_path, build(units=6), IDENTITY)


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_checkpoints_take_no_sound_ones_place(tmp_path: Path, keep: int) -> None:
    model = build()
    for epoch in (12, 13):
        checkpoint.save(tmp_path, model, progress(epoch), keep=2)
    for damaged in tmp_path.iterdir():
        flip_a_byte(damaged / "state.npz")
    for epoch in (3, 6, 9):
        checkpoint.save(tmp_path, model, progress(epoch), keep=keep)
        restored = restore(tmp_path, build(), IDENTITY)
        assert restored is not None
        assert restored.epoch == epoch
    sound = [f"epoch-{epoch:05d}" for epoch in (3, 6, 9)][-keep:]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sound, "epoch-00012", "epoch-00013"]
    # They go when they are old.
    for epoch in (14, 15):
        checkpoint.save(tmp_path, model, progress(epoch), keep=keep)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-00014", "epoch-00015"][-keep:]


def test_a_hundred_thousand_epochs_are_newer_than_one_less(tmp_path: Path) -> None:
    model = build()
    for epoch in (99_999, 100_000):
        checkpoint.save(tmp_path, model, Progress(epoch=epoch, history=[], identity=IDENTITY), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-100000"]


def test_a_storage_that_cannot_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, build(), progress(1))

    def stale(*_: Any, **__: Any) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "read_text", stale)
    for look in (lambda: find_resumable(tmp_path, IDENTITY), lambda: restore(tmp_path, build(), IDENTITY)):
        with pytest.raises(OSError, match="Stale file handle"):
            look()


def test_a_worker_restores_what_another_one_chose(tmp_path: Path) -> None:
    model = build()
    for epoch in (1, 2):
        save(tmp_path, model, progress(epoch))
    restored = restore(tmp_path, build(), IDENTITY, place=(1, 0))
    assert restored is not None
    assert restored.epoch == 1
    # It may be visible here a little later.
    with pytest.raises(OSError, match="no sound checkpoint of the epoch and step that rank 0 restored"):
        restore(tmp_path, build(), IDENTITY, place=(3, 0))


def test_a_directory_that_cannot_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, build(), progress(1))

    def denied(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.listdir", denied)
    monkeypatch.setattr("os.scandir", denied)
    for look in (lambda: find_resumable(tmp_path, IDENTITY), lambda: restore(tmp_path, build(), IDENTITY)):
        with pytest.raises(PermissionError):
            look()
