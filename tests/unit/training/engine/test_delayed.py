"""Steps whose first layer's products are computed at once, against `keras.Model.fit`, which takes one at a time."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, optimizers

import annlib
from annlib.training.engine import compilation, delayed, session

BATCH_SIZE, AT_ONCE = 32, 5
# 12 full batches, which are two times five and two more, and one of 7 rows.
NUM_ROWS = 12 * BATCH_SIZE + 7
rng = np.random.default_rng(3)
IMAGES = rng.integers(0, 256, (NUM_ROWS, 5, 4)).astype(np.uint8)
ROWS = rng.normal(size=(NUM_ROWS, 20)).astype(np.float32)
LABELS = rng.integers(0, 3, NUM_ROWS)


@pytest.fixture(autouse=True)
def small_layers_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_MIN_INPUTS", "_MIN_UNITS", "_MIN_SIZE", "_BREAK_EVEN"):
        monkeypatch.setattr(delayed, name, 0)
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0)
    # Such small layers would be compiled in another way.
    monkeypatch.setattr(compilation.small_loops, "is_small", lambda *_, **__: False)


def of_rows(*hidden: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((20,)), *hidden, layers.Dense(3, activation="softmax")])


def of_images() -> keras.Model:
    before = [layers.Rescaling(1 / 255), layers.Flatten()]
    return keras.Sequential(
        [keras.Input((5, 4)), *before, layers.Dense(16, activation="relu"), layers.Dense(3, activation="softmax")]
    )


def with_another_use_of_the_input() -> keras.Model:
    inputs = keras.Input((20,))
    hidden = layers.Dense(16, activation="tanh")(inputs)
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Concatenate()([hidden, inputs])))


def with_statistics_after() -> keras.Model:
    return of_rows(layers.Dense(16, activation="relu"), layers.BatchNormalization(momentum=0.8))


def sgd() -> keras.optimizers.Optimizer:
    return optimizers.SGD(0.1)


def scheduled() -> keras.optimizers.Optimizer:
    return optimizers.SGD(optimizers.schedules.ExponentialDecay(0.2, 3, 0.8))


def compiled(
    make: Callable[[], keras.Model], optimizer: Callable[[], keras.optimizers.Optimizer], **arguments: Any
) -> keras.Model:
    keras.utils.set_random_seed(5)
    model = make()
    model.compile(optimizer(), **{"loss": "sparse_categorical_crossentropy", "metrics": ["accuracy"], **arguments})
    return model


@pytest.mark.parametrize(
    ("make", "x", "optimizer", "weighted"),
    [
        (of_images, IMAGES, sgd, False),
        (of_images, IMAGES.astype(np.float32), scheduled, True),
        (lambda: of_rows(layers.Dense(16, activation="tanh", use_bias=False)), ROWS, scheduled, False),
        (with_another_use_of_the_input, ROWS, sgd, False),
        (with_statistics_after, ROWS, sgd, False),
    ],
    ids=["images", "weighted", "no-bias", "input-used-twice", "statistics"],
)
def test_steps_at_once_are_those_of_keras(
    make: Callable[[], keras.Model],
    x: np.ndarray,
    optimizer: Callable[[], keras.optimizers.Optimizer],
    weighted: bool,
) -> None:
    ours, theirs = compiled(make, optimizer), compiled(make, optimizer)
    weights = {"sample_weight": rng.random(NUM_ROWS).astype(np.float32)} if weighted else {}
    arguments = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0, "validation_data": (x[:50], LABELS[:50])}
    assert delayed.steps_at_once(ours, BATCH_SIZE, 1000) == AT_ONCE
    history = annlib.fit(ours, x, LABELS, epochs=4, **weights, **arguments).history
    expected = theirs.fit(x, LABELS, epochs=4, **weights, **arguments).history
    assert list(history) == list(expected)
    for name, values in history.items():
        np.testing.assert_allclose(values, expected[name], rtol=2e-4, err_msg=name)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.linalg.norm(one - other) <= 2e-4 * np.linalg.norm(other)
    assert int(ours.optimizer.iterations) == int(theirs.optimizer.iterations)


@pytest.mark.parametrize("num_rows", [3, 4 * BATCH_SIZE, AT_ONCE * BATCH_SIZE, (AT_ONCE + 1) * BATCH_SIZE + 1])
def test_any_number_of_rows(num_rows: int) -> None:
    ours, theirs = compiled(of_images, sgd), compiled(of_images, sgd)
    arguments = {"batch_size": BATCH_SIZE, "shuffle": False, "verbose": 0, "epochs": 2}
    annlib.fit(ours, IMAGES[:num_rows], LABELS[:num_rows], **arguments)
    theirs.fit(IMAGES[:num_rows], LABELS[:num_rows], **arguments)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_same_steps_run_at_once_however_fast_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for num_steps in (2, 6):
        monkeypatch.setattr(session, "FIRST_CHUNK_STEPS", num_steps)
        monkeypatch.setattr(session.Session, "_learn_speed", lambda *_: None)
        model = compiled(of_images, sgd)
        annlib.fit(model, IMAGES, LABELS, batch_size=BATCH_SIZE, epochs=1, shuffle=False, verbose=0)
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_layer_that_is_frozen_after_the_first_training_goes_on_until_the_model_is_compiled() -> None:
    models = [compiled(of_images, sgd) for _ in range(2)]
    for model, fit in zip(models, (annlib.fit, keras.Model.fit), strict=True):
        for _ in range(2):
            fit(model, IMAGES, LABELS, batch_size=BATCH_SIZE, shuffle=False, verbose=0)
            model.layers[2].trainable = False
    for one, other in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


class Own(layers.Layer):
    def call(self, x: Any) -> Any:
        return x


def frozen() -> keras.Model:
    model = of_rows(layers.Dense(16))
    model.layers[0].trainable = False
    return model


def with_an_operation_over_the_rows() -> keras.Model:
    inputs = keras.Input((20,))
    hidden = layers.Dense(16)(inputs - keras.ops.mean(inputs, axis=0))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(hidden))


def of_integers() -> keras.Model:
    return keras.Sequential([keras.Input((20,), dtype="uint8"), layers.Dense(16), layers.Dense(3, "softmax")])


def with_a_layer_used_twice() -> keras.Model:
    layer = layers.Dense(20)
    return of_rows(layer, layer)


def own_loss(y: Any, y_pred: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(y, y_pred)


WAITS = {"make": lambda: of_rows(layers.Dense(16)), "optimizer": sgd}


def test_the_plain_model_waits() -> None:
    assert delayed.steps_at_once(compiled(**WAITS), BATCH_SIZE, 1000) == AT_ONCE


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": lambda: optimizers.SGD(0.1, momentum=0.9)},
        {"optimizer": lambda: optimizers.SGD(0.1, weight_decay=0.1)},
        {"optimizer": lambda: optimizers.SGD(0.1, clipnorm=1.0)},
        {"optimizer": lambda: optimizers.SGD(0.1, use_ema=True)},
        {"optimizer": lambda: optimizers.SGD(0.1, gradient_accumulation_steps=2)},
        {"optimizer": optimizers.Adam},
        {"make": lambda: of_rows(layers.Dense(16, kernel_regularizer="l2"))},
        {"make": lambda: of_rows(layers.Dense(16, kernel_constraint="non_neg"))},
        {"make": lambda: of_rows(layers.Dense(16, dtype="mixed_bfloat16"))},
        {"make": lambda: of_rows(layers.Reshape((2, 10)), layers.Dense(16), layers.Flatten())},
        {"make": lambda: of_rows(layers.Dropout(0.5), layers.Dense(16))},
        {"make": lambda: of_rows(layers.BatchNormalization(), layers.Dense(16))},
        {"make": lambda: of_rows(layers.Dense(16), Own())},
        {"make": lambda: of_rows(layers.Dense(16), layers.Lambda(lambda x: x))},
        {"make": frozen},
        {"make": with_an_operation_over_the_rows},
        {"make": with_a_layer_used_twice},
        {"make": of_integers},
        {"loss": own_loss},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_others_do_not_wait(changes: dict[str, Any]) -> None:
    model = compiled(**{**WAITS, **changes})
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    assert delayed.steps_at_once(model, BATCH_SIZE, 1000) == 1


@pytest.mark.parametrize(("batch_size", "at_once"), [(1, 5), (32, 5), (64, 2), (128, 1), (1000, 1)])
def test_large_batches_do_not_wait(batch_size: int, at_once: int) -> None:
    assert delayed.steps_at_once(compiled(**WAITS), batch_size, 1000) == at_once


def test_few_steps_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delayed, "_BREAK_EVEN", 100 * 20 * 16)
    model = compiled(**WAITS)
    assert [delayed.steps_at_once(model, BATCH_SIZE, num_steps) for num_steps in (99, 100)] == [1, 5]
