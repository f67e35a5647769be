"""Own training steps, compilation, callbacks, shuffling, evaluation and prediction."""

import gc
import importlib
import weakref
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import annlib
from annlib.data.batches import epoch_order
from annlib.errors import NonFiniteLossError
from annlib.training.engine import compilation, hooks, orders
from annlib.training.engine.arrays import as_dataset
from annlib.training.engine.batching import evaluation_batch_size, predict_batch_size

# The package also has a function of this name.
session = importlib.import_module("annlib.training.engine.session")
layers = keras.layers
rng = np.random.default_rng(5)
X = rng.normal(size=(101, 4)).astype("float32")
Y = (X[:, :1] - X[:, 1:2] ** 2 > -0.5).astype("float32")
WEIGHT = rng.random(101).astype("float32")
TOLERANCE = 1e-5


def model_of(kind: Any = None, metrics: bool = False, learning_rate: float = 0.1, **extra: Any) -> keras.Model:
    keras.utils.set_random_seed(2)
    x = keras.Input((4,))
    hidden = layers.Dense(5, activation="tanh")(x)
    model = (kind or keras.Model)(x, layers.Dense(1, activation="sigmoid")(hidden))
    if metrics:
        extra["metrics"] = ["accuracy", keras.metrics.AUC(name="auc"), keras.metrics.Precision(name="precision")]
        extra["weighted_metrics"] = [keras.metrics.BinaryCrossentropy(name="cross")]
    model.compile(optimizer=keras.optimizers.SGD(learning_rate), loss="binary_crossentropy", **extra)
    return model


def train(model: keras.Model, **arguments: Any) -> keras.callbacks.History:
    return annlib.fit(model, X, Y, **{"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False, **arguments})


def keras_train(model: keras.Model, **arguments: Any) -> keras.callbacks.History:
    return model.fit(X, Y, **{"batch_size": 16, "epochs": 2, "verbose": 0, "shuffle": False, **arguments})


def assert_same(ours: keras.callbacks.History, theirs: keras.callbacks.History) -> None:
    assert list(ours.history) == list(theirs.history)
    for key, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[key], values, rtol=TOLERANCE, err_msg=key)
    for a, b in zip(ours.model.get_weights(), theirs.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


class OwnTest(keras.Model):
    def test_step(self, data: Any) -> Any:
        return super().test_step(data)


class OwnLogs(keras.Model):
    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=True) - y) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own_loss": loss, "norm": tf.linalg.global_norm(gradients)}


# Own steps and ways of compiling


def test_an_own_train_step_gives_its_own_logs_as_in_keras() -> None:
    assert_same(train(model_of(OwnLogs)), keras_train(model_of(OwnLogs)))


def test_run_eagerly_gives_what_keras_gives() -> None:
    assert_same(train(model_of(run_eagerly=True)), keras_train(model_of(run_eagerly=True)))


def test_run_eagerly_calls_python_for_each_batch() -> None:
    calls = []

    class Counting(keras.Model):
        def train_step(self, data: Any) -> Any:
            calls.append(int(data[0].shape[0]) if tf.executing_eagerly() else None)
            return super().train_step(data)

    train(model_of(Counting, run_eagerly=True), epochs=1)
    assert [call for call in calls if call] == [16] * 6 + [5]


class NotForXla(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        zero = tf.strings.to_number(tf.strings.as_string(tf.cast(x[:1, :1] > 1e9, "float32")))
        return x + tf.stop_gradient(zero)


def unfriendly() -> keras.Model:
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, activation="tanh"), NotForXla(), layers.Dense(1)])
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse", jit_compile=False)
    return model


def test_what_xla_refuses_runs_as_a_graph_with_the_same_result(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0)
    ours = train(unfriendly())
    assert "the plain graph takes over" in caplog.text
    assert_same(ours, keras_train(unfriendly()))


@pytest.mark.parametrize(
    ("make", "steps", "mode", "reason"),
    [
        (lambda: layers.Dense(1), 10, "graph", "10 steps"),
        (lambda: layers.Dense(1), 10**6, "xla", "repay"),
        (lambda: layers.Conv1D(1, 2), 10**6, "graph", "slower"),
        (lambda: layers.LSTM(1), 10**6, "graph", "slower"),
    ],
)
def test_the_choice_of_compilation(make: Any, steps: int, mode: str, reason: str) -> None:
    model = keras.Sequential([keras.Input((4, 2)), make()])
    model.compile(loss="mse")
    chosen = compilation.choose_compilation(model, batch_size=32, num_steps=steps)
    assert (chosen.mode, reason in chosen.reason) == (mode, True)


def test_a_layer_that_says_it_does_not_support_xla_runs_as_a_graph() -> None:
    layer = layers.Dense(1, name="special")
    layer.supports_jit = False
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(loss="mse")
    chosen = compilation.choose_compilation(model, batch_size=32, num_steps=10**6)
    assert (chosen.mode, "special" in chosen.reason) == ("graph", True)


# Callbacks


class Recorder(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.seen.append("train")

    def on_train_end(self, logs: Any = None) -> None:
        self.seen.append("trained")

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(("epoch", epoch))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.seen.append(("epoch done", epoch, sorted(logs)))

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("batch", batch))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen.append(("batch done", batch))

    def on_test_begin(self, logs: Any = None) -> None:
        self.seen.append("test")

    def on_test_end(self, logs: Any = None) -> None:
        self.seen.append("tested")


def test_hooks_come_in_the_order_of_keras() -> None:
    ours, theirs = Recorder(), Recorder()
    train(model_of(), callbacks=[ours], validation_data=(X, Y))
    # Keras calls the test hooks of batches as well.
    keras_train(model_of(), callbacks=[theirs], validation_data=(X, Y))
    assert ours.seen == theirs.seen


def test_batch_hooks_come_at_the_boundaries_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "FIRST_CHUNK_STEPS", 3)
    monkeypatch.setattr(session, "CHUNK_S", 0.0)  # one step a chunk once the speed is known
    recorder = Recorder()
    # Not the user's own, so it does not count on each batch.
    monkeypatch.setattr(Recorder, "__module__", "annlib.recorder")
    train(model_of(), callbacks=[recorder], epochs=1)
    hooks = [seen for seen in recorder.seen if seen[0] in ("batch", "batch done")]
    bounds = [(0, 2), (3, 5), (6, 6)]
    assert hooks == [hook for first, last in bounds for hook in (("batch", first), ("batch done", last))]


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = keras_train(model_of())
    monkeypatch.setattr(session, "FIRST_CHUNK_STEPS", 3)
    monkeypatch.setattr(session, "CHUNK_S", 0.0)
    assert_same(train(model_of()), expected)


def test_a_learning_rate_set_between_epochs_takes_effect() -> None:
    schedule = [keras.callbacks.LearningRateScheduler(lambda epoch: 0.3 / (1 + epoch) ** 2)]
    assert_same(train(model_of(), epochs=3, callbacks=schedule), keras_train(model_of(), epochs=3, callbacks=schedule))


def test_stop_training_ends_after_the_epoch() -> None:
    model = model_of()
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: setattr(model, "stop_training", epoch == 1))
    assert train(model, epochs=9, callbacks=[stop]).epoch == [0, 1]


def test_early_stopping_restores_the_best_weights() -> None:
    def stopping() -> list[keras.callbacks.Callback]:
        # Ascent: the loss gets worse from the start, so the first epoch's weights are the best.
        return [keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)]

    ours = train(model_of(learning_rate=-0.05), epochs=9, callbacks=stopping())
    theirs = keras_train(model_of(learning_rate=-0.05), epochs=9, callbacks=stopping())
    assert theirs.epoch == [0, 1, 2]
    assert_same(ours, theirs)


def test_initial_epoch_trains_the_rest_only() -> None:
    assert train(model_of(), initial_epoch=3, epochs=5).epoch == [3, 4]


def test_training_on_from_an_initial_epoch_equals_training_in_one_go() -> None:
    model = model_of()
    train(model, shuffle=True, seed=4, epochs=2)
    second = train(model, shuffle=True, seed=4, initial_epoch=2, epochs=4)
    whole = train(model_of(), shuffle=True, seed=4, epochs=4)
    np.testing.assert_allclose(second.history["loss"], whole.history["loss"][2:], rtol=TOLERANCE)


def test_fit_returns_the_models_history() -> None:
    model = model_of()
    history = train(model)
    assert isinstance(history, keras.callbacks.History)
    assert history is model.history


# Epochs in one call


def num_epochs_of_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns the list that will tell how many epochs each call ran, where it ran whole ones."""
    sizes: list[int] = []
    original = session.Session._run_epochs

    def run_epochs(self: Any, ahead: Any, epoch: int, num_epochs: int, last_epoch: int) -> Any:
        sizes.append(num_epochs)
        return original(self, ahead, epoch, num_epochs, last_epoch)

    monkeypatch.setattr(session.Session, "_run_epochs", run_epochs)
    return sizes


@pytest.mark.parametrize("mode", ["graph", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("xla", "eager"))])
def test_epochs_of_one_call_give_what_keras_gives(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0 if mode == "xla" else 10**9)
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    monkeypatch.setattr(orders, "MAX_EPOCHS_AT_ONCE", 4)
    sizes = num_epochs_of_calls(monkeypatch)
    arguments = {"epochs": 8, "validation_data": (X[:50], Y[:50], WEIGHT[:50])}
    ours = train(model_of(metrics=True, run_eagerly=mode == "eager"), **arguments)
    # In another thread, random numbers would be others than Keras'.
    assert sizes == ([] if mode == "eager" else [4, 2])
    theirs = keras_train(model_of(metrics=True), **arguments)
    assert ours.epoch == theirs.epoch == list(range(8))
    assert_same(ours, theirs)


def test_epochs_of_one_call_see_the_rows_in_their_own_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    sizes = num_epochs_of_calls(monkeypatch)
    ours = train(model_of(), shuffle=True, seed=9, epochs=70)
    assert sizes == [32, 32, 4]
    one_by_one = train(model_of(), shuffle=True, seed=9, epochs=70, callbacks=[keras.callbacks.Callback()])
    assert len(sizes) == 3
    assert_same(ours, one_by_one)


def reacting(stop_after: int, reduce_after: int) -> list[keras.callbacks.Callback]:
    """Callbacks that do so whatever the loss is."""
    return [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=stop_after, min_delta=10.0),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=reduce_after, min_delta=10.0),
    ]


# Blocks of 4 epochs begin with the third: changes at the end of a block, within one, and several in one. What is taken
# back does not depend on how the epochs run.
@pytest.mark.parametrize(
    ("mode", "stop_after", "reduce_after"),
    [
        ("graph", 100, 5),
        pytest.param("graph", 100, 1, marks=pytest.mark.slow),
        pytest.param("graph", 9, 100, marks=pytest.mark.slow),
        pytest.param("graph", 12, 100, marks=pytest.mark.slow),
        pytest.param("xla", 100, 7, marks=pytest.mark.slow),
        pytest.param("xla", 7, 3, marks=pytest.mark.slow),
    ],
)
def test_epochs_that_ran_ahead_are_taken_back(
    monkeypatch: pytest.MonkeyPatch, mode: str, stop_after: int, reduce_after: int
) -> None:
    monkeypatch.setattr(compilation, "XLA_BREAK_EVEN_STEPS", 0 if mode == "xla" else 10**9)
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    monkeypatch.setattr(orders, "MAX_EPOCHS_AT_ONCE", 4)
    sizes = num_epochs_of_calls(monkeypatch)

    def model() -> keras.Model:
        found = model_of(metrics=True)
        # Its state has to go back as well.
        found.compile(optimizer=keras.optimizers.Adam(0.05), loss="binary_crossentropy", metrics=["accuracy"])
        return found

    arguments = {"epochs": 20, "validation_data": (X[:50], Y[:50], WEIGHT[:50])}
    ours = train(model(), callbacks=reacting(stop_after, reduce_after), verbose=1, **arguments)
    assert max(sizes) > 1
    theirs = keras_train(model(), callbacks=reacting(stop_after, reduce_after), **arguments)
    assert ours.epoch == theirs.epoch == list(range(min(20, stop_after + 1)))
    assert_same(ours, theirs)
    rates = [history.model.optimizer.learning_rate.numpy() for history in (ours, theirs)]
    assert rates[0] == rates[1]
    assert int(ours.model.optimizer.iterations) == int(theirs.model.optimizer.iterations)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_callback_compares_as_keras_does(mode: str) -> None:
    best = 0.1
    near = [best, best - 1e-12, best + 1e-12, float(np.float32(best)), best - 1e-6, best + 1e-6, float("nan")]

    def improvements(callback: keras.callbacks.Callback) -> list[bool]:
        return [bool(callback._is_improvement(value, best)) for value in near]

    callback = keras.callbacks.EarlyStopping(monitor="loss", mode=mode, min_delta=1e-9)
    callback._set_monitor_op()
    expected = improvements(callback)
    assert len(set(expected)) == 2
    hooks.compare_without_tensorflow(keras.callbacks.CallbackList([callback]))
    assert callback.monitor_op not in (keras.ops.less, keras.ops.greater)
    assert improvements(callback) == expected


class TwoOptimizers(keras.Model):
    """Trains its last layer by an optimizer that Keras does not know as the model's."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply(gradients[:2], variables[:2])
        self.second.apply(gradients[2:], variables[2:])
        self._loss_tracker.update_state(loss)
        return {"loss": self._loss_tracker.result()}


def test_a_step_with_state_of_its_own_is_not_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    sizes = num_epochs_of_calls(monkeypatch)

    def model() -> keras.Model:
        found = model_of(TwoOptimizers)
        found.optimizer.build(found.trainable_variables[:2])
        found.second = keras.optimizers.Adam(0.1)
        found.second.build(found.trainable_variables[2:])
        return found

    def callbacks() -> list[keras.callbacks.Callback]:
        return [keras.callbacks.EarlyStopping(monitor="loss", patience=5, min_delta=10.0)]

    ours = train(model(), epochs=20, callbacks=callbacks())
    assert sizes == []
    assert_same(ours, keras_train(model(), epochs=20, callbacks=callbacks()))


class Counted(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.calls = tf.Variable(0.0, trainable=False)

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.calls.assign_add(1.0)
        return x * (1.0 + 0.01 * self.calls)


def test_a_layer_with_state_of_its_own_is_not_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)

    def model() -> keras.Model:
        keras.utils.set_random_seed(2)
        found = keras.Sequential([keras.Input((4,)), Counted(), layers.Dense(1, activation="sigmoid")])
        found.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
        return found

    ours, theirs = (fit(model(), epochs=12, callbacks=reacting(100, 3)) for fit in (train, keras_train))
    assert_same(ours, theirs)
    assert float(ours.model.layers[0].calls) == float(theirs.model.layers[0].calls) == 12 * 7


def test_the_rate_of_a_schedule_is_logged_as_of_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)

    def model() -> keras.Model:
        found = model_of()
        schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 7, 0.9)
        found.compile(keras.optimizers.SGD(schedule), "binary_crossentropy")
        return found

    def callbacks() -> list[keras.callbacks.Callback]:
        return [keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=100)]

    arguments = {"epochs": 12}
    ours = train(model(), callbacks=callbacks(), **arguments)
    assert_same(ours, keras_train(model(), callbacks=callbacks(), **arguments))


class Noise(layers.Layer):
    def call(self, x: Any, training: bool = False) -> Any:
        return x + keras.random.normal(keras.ops.shape(x)) if training else x


def test_eager_epochs_draw_the_random_numbers_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)

    def model() -> keras.Model:
        keras.utils.set_random_seed(2)
        found = keras.Sequential([keras.Input((4,)), Noise(), layers.Dense(1)])
        found.compile("sgd", "mse", run_eagerly=True)
        return found

    ours = train(model(), epochs=5, batch_size=101)
    assert_same(ours, keras_train(model(), epochs=5, batch_size=101))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("arguments", [{"validation_split": 0.4}, {"batch_size": 8}])
def test_trainable_stays_what_it_was_until_the_model_is_compiled(before: bool, arguments: dict[str, Any]) -> None:
    def histories(fit: Any) -> list[keras.callbacks.History]:
        model = model_of()
        model.layers[1].trainable = before
        fit(model)
        model.layers[1].trainable = not before
        # Other numbers of rows, and another batch size.
        history = fit(model, **arguments)
        assert [weight.trainable for weight in model.layers[1].weights] == [not before] * 2
        return [history]

    assert_same(histories(train)[0], histories(keras_train)[0])


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_stop_training_before_an_epoch_takes_as_few_steps_as_in_keras(steps_per_execution: int) -> None:
    def fit(train: Any) -> keras.callbacks.History:
        model = model_of(steps_per_execution=steps_per_execution)
        stop = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(model, "stop_training", True))
        return train(model, callbacks=[stop])

    ours = fit(train)
    assert_same(ours, fit(keras_train))
    assert int(ours.model.optimizer.iterations) == steps_per_execution


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", [5, 9])
def test_a_loss_that_is_scaled_goes_back_as_well(monkeypatch: pytest.MonkeyPatch, stop_after: int) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    monkeypatch.setattr(orders, "MAX_EPOCHS_AT_ONCE", 4)

    def model() -> keras.Model:
        found = model_of()
        scaled = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.05), initial_scale=8.0)
        found.compile(optimizer=scaled, loss="binary_crossentropy")
        return found

    arguments = {"epochs": 20, "validation_data": (X[:50], Y[:50])}
    ours = train(model(), callbacks=reacting(stop_after, 3), **arguments)
    theirs = keras_train(model(), callbacks=reacting(stop_after, 3), **arguments)
    assert ours.epoch == theirs.epoch == list(range(stop_after + 1))
    assert_same(ours, theirs)


def of_two_optimizers(learning_rate: float = 0.1) -> keras.Model:
    found = model_of()
    parts = keras.optimizers.OptimizerMap(keras.optimizers.SGD(learning_rate, name="rest"))
    parts[f"{found.layers[-1].name}/.*"] = keras.optimizers.Adam(0.02, name="last")
    found.compile(optimizer=keras.optimizers.MultiOptimizer(parts), loss="binary_crossentropy")
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("stop_after", "reduce_after"), [(100, 5), (9, 3)])
def test_several_optimizers_go_back_as_well(
    monkeypatch: pytest.MonkeyPatch, stop_after: int, reduce_after: int
) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    monkeypatch.setattr(orders, "MAX_EPOCHS_AT_ONCE", 4)
    arguments = {"epochs": 16, "validation_data": (X[:50], Y[:50])}
    sizes = num_epochs_of_calls(monkeypatch)
    ours = train(of_two_optimizers(), callbacks=reacting(stop_after, reduce_after), **arguments)
    assert max(sizes) > 1
    theirs = keras_train(of_two_optimizers(), callbacks=reacting(stop_after, reduce_after), **arguments)
    assert ours.epoch == theirs.epoch
    assert_same(ours, theirs)


def test_a_loss_of_several_optimizers_that_is_not_finite_names_the_first_rate() -> None:
    with pytest.raises(NonFiniteLossError, match=r"learning rate 0\.02"):
        annlib.fit(of_two_optimizers(), X * np.nan, Y, verbose=0)


def test_the_best_weights_are_those_of_their_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    arguments = {"epochs": 12, "validation_data": (X[:50], 1 - Y[:50])}

    def stopping() -> list[keras.callbacks.Callback]:
        return [keras.callbacks.EarlyStopping(monitor="val_loss", patience=4, restore_best_weights=True)]

    sizes = num_epochs_of_calls(monkeypatch)
    ours = train(model_of(), callbacks=stopping(), **arguments)
    assert sizes == []
    assert_same(ours, keras_train(model_of(), callbacks=stopping(), **arguments))


def test_a_loss_that_is_not_finite_names_its_epoch_among_those_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "CHUNK_S", 60.0)
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    # Seven steps an epoch: the tenth epoch blows up.
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([7 * 9], [0.01, 1e30])
    model.compile(optimizer=keras.optimizers.SGD(rate), loss="mse")
    with pytest.raises(NonFiniteLossError, match="epoch 10 "):
        train(model, epochs=40)


class Swap(keras.callbacks.Callback):
    """Validates with other weights than it trains, as Keras' SwapEMAWeights does."""

    def on_test_begin(self, logs: Any = None) -> None:
        self.weights = self.model.get_weights()
        self.model.set_weights([np.zeros_like(weight) for weight in self.weights])

    def on_test_end(self, logs: Any = None) -> None:
        self.model.set_weights(self.weights)


def test_a_callback_acts_between_training_and_validation() -> None:
    ours = train(model_of(), epochs=3, validation_data=(X, Y), callbacks=[Swap()])
    theirs = keras_train(model_of(), epochs=3, validation_data=(X, Y), callbacks=[Swap()])
    assert theirs.history["val_loss"] == pytest.approx([np.log(2.0)] * 3)
    assert_same(ours, theirs)


def test_a_validation_without_a_batch_size_takes_more_rows_at_once() -> None:
    assert evaluation_batch_size(model_of(), 16) == 1024
    wide = keras.Sequential([keras.Input((4,)), layers.Dense(2**16)])
    assert evaluation_batch_size(wide, 8) == 16
    assert evaluation_batch_size(model_of(OwnTest), 16) == 16


def rmse_of_batch(y_true: Any, y_pred: Any) -> Any:
    return keras.ops.sqrt(keras.ops.mean(keras.ops.square(y_true - y_pred)))


class Centred(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return x - keras.ops.mean(x, axis=0)


@pytest.mark.parametrize(
    "change",
    [
        {"loss": keras.losses.MeanSquaredError(reduction="sum")},
        {"loss": keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")},
        {"loss": keras.losses.Dice()},
        {"loss": "tversky"},
        {"loss": rmse_of_batch},
        {"metrics": [rmse_of_batch]},
        {"layer": Centred()},
    ],
    ids=["sum", "mean_with_sample_weight", "dice", "tversky", "loss", "metric", "layer"],
)
def test_a_validation_that_depends_on_its_batches_has_those_of_the_training(change: dict[str, Any]) -> None:
    weight = np.linspace(0.1, 2.0, len(X))

    def model() -> keras.Model:
        keras.utils.set_random_seed(1)
        hidden = [change["layer"]] if "layer" in change else []
        found = keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(1, activation="sigmoid")])
        found.compile("sgd", **{"loss": "mse", **{name: part for name, part in change.items() if name != "layer"}})
        return found

    arguments = {"validation_data": (X, Y, weight), "sample_weight": weight}
    assert_same(train(model(), **arguments), keras_train(model(), **arguments))
    assert evaluation_batch_size(model(), 16) == 16


def test_a_masked_validation_has_the_batches_of_the_training() -> None:
    codes, y = np.where(X > 0, np.arange(1, 5), 0), X[..., np.newaxis]

    def model() -> keras.Model:
        keras.utils.set_random_seed(1)
        found = keras.Sequential([keras.Input((4,)), layers.Embedding(5, 2, mask_zero=True), layers.Dense(1)])
        found.compile("sgd", "mse")
        return found

    arguments = {"batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False, "validation_data": (codes, y)}
    assert_same(annlib.fit(model(), codes, y, **arguments), model().fit(codes, y, **arguments))


# Shuffling


def test_the_same_seed_gives_the_same_losses() -> None:
    first, second = (train(model_of(), shuffle=True, seed=9).history["loss"] for _ in range(2))
    assert first == second


def test_another_seed_gives_other_losses() -> None:
    first, second = (train(model_of(), shuffle=True, seed=seed).history["loss"] for seed in (9, 10))
    assert first != second


def test_set_random_seed_decides_the_order_when_no_seed_is_given() -> None:
    first, second = (train(model_of(), shuffle=True).history["loss"] for _ in range(2))
    assert first == second


def test_a_shuffled_epoch_trains_on_the_rows_in_the_order_of_epoch_order() -> None:
    order = epoch_order(101, seed=9, epoch=0)
    ours = train(model_of(), shuffle=True, seed=9, epochs=1)
    theirs = model_of().fit(X[order], Y[order], batch_size=16, shuffle=False, verbose=0)
    assert_same(ours, theirs)


# Evaluation and prediction


def test_evaluate_equals_keras_with_auc_and_weighted_metrics() -> None:
    model = model_of(metrics=True)
    expected = model.evaluate(X, Y, sample_weight=WEIGHT, batch_size=16, verbose=0, return_dict=True)
    received = annlib.evaluate(model, X, Y, sample_weight=WEIGHT, batch_size=16, return_dict=True)
    assert received == pytest.approx(expected, rel=TOLERANCE)


def test_evaluate_returns_the_list_of_keras() -> None:
    model = model_of(metrics=True)
    assert annlib.evaluate(model, X, Y) == pytest.approx(model.evaluate(X, Y, verbose=0), rel=TOLERANCE)


def test_predict_equals_keras_with_a_smaller_last_batch() -> None:
    model = model_of()
    np.testing.assert_allclose(
        annlib.predict(model, X, batch_size=16), model.predict(X, batch_size=16, verbose=0), rtol=TOLERANCE
    )


class AddsOne(keras.Model):
    def predict_step(self, data: Any) -> Any:
        return super().predict_step(data) + keras.ops.cast(keras.ops.shape(data)[0], "float32")


def predicting(kind: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    x = keras.Input(batch_shape=(32, 4)) if kind in ("stateful", "batch_shape") else keras.Input((4,))
    if kind == "stateful":
        return keras.Model(x, layers.LSTM(2, stateful=True)(layers.Reshape((2, 2))(x)))
    if kind == "predict_step":
        return AddsOne(x, layers.Dense(1)(x))
    return keras.Model(x, layers.Dense(1)(Centred()(x) if kind == "layer" else x))


@pytest.mark.parametrize("kind", ["layer", "stateful", "batch_shape", "predict_step"])
def test_a_prediction_that_depends_on_its_batches_has_those_of_keras(kind: str) -> None:
    rows = np.concatenate([X, X])[:192]
    expected = predicting(kind).predict(rows, verbose=0)
    np.testing.assert_allclose(annlib.predict(predicting(kind), rows), expected, rtol=1e-4, atol=1e-6)


def test_a_prediction_of_known_layers_takes_more_rows_at_once() -> None:
    assert predict_batch_size(keras.Sequential([keras.Input((4,)), layers.Dense(1), layers.Dropout(0.1)])) == 1024


def test_predict_equals_keras_with_outputs_in_a_dict() -> None:
    x = keras.Input((4,))
    model = keras.Model(x, {"a": layers.Dense(2)(x), "b": layers.Dense(1)(x)})
    expected = model.predict(X, batch_size=16, verbose=0)
    received = annlib.predict(model, X, batch_size=16)
    assert list(received) == list(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(received[key], value, rtol=1e-4, atol=1e-6)


def test_predict_uses_the_weights_of_a_later_training() -> None:
    model = model_of()
    annlib.predict(model, X)
    train(model)
    np.testing.assert_allclose(annlib.predict(model, X), model.predict(X, verbose=0), rtol=TOLERANCE)


def test_compiling_again_with_another_loss_takes_effect() -> None:
    model = model_of()
    annlib.evaluate(model, X, Y)
    model.compile(loss="mse")
    expected = float(np.mean((model.predict(X, verbose=0) - Y) ** 2))
    assert annlib.evaluate(model, X, Y) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize("epochs", [1, 40])
@pytest.mark.parametrize("validates", [False, True])
def test_the_data_is_let_go_when_the_training_has_ended(epochs: int, validates: bool) -> None:
    tensors = [tf.constant(X), tf.constant(Y), tf.constant(X)]
    left = [weakref.ref(tensor) for tensor in tensors]
    x, y, validation = tensors
    data: dict[str, Any] = {"validation_data": (validation, y)} if validates else {}
    stopping = [keras.callbacks.EarlyStopping(monitor="loss", patience=100)]
    # Python's search for cycles comes when it comes; large data would wait for it.
    gc.disable()
    try:
        annlib.fit(model_of(), x, y, epochs=epochs, verbose=0, callbacks=stopping, **data)
        del tensors, x, y, validation, data
        assert [reference() for reference in left] == [None] * 3
    finally:
        gc.enable()


@pytest.mark.parametrize("mode", ["r", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("c", "r+"))])
@pytest.mark.parametrize(
    "dtype",
    [
        "uint8",
        *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in ("float32", "float64", "bool", ">i4", "float16")),
    ],
)
def test_a_memory_map_gives_what_the_array_in_memory_gives(tmp_path: Path, mode: Any, dtype: str) -> None:
    x = (rng.random((70, 4)) * 5).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    content = (tmp_path / "x.npy").read_bytes()
    mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
    # The whole, and rows that begin where TensorFlow takes none as they are.
    for rows in (slice(None), slice(1, 60, 3), slice(16, 66), slice(1, 66)):
        models = [model_of(), model_of()]
        for model, array in zip(models, (mapped, x), strict=True):
            annlib.fit(model, array[rows], Y[:70][rows], batch_size=16, verbose=0, seed=1)
        for ours, theirs in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert (tmp_path / "x.npy").read_bytes() == content


def test_a_memory_map_is_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100, 64), np.float32))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    (tensor,) = as_dataset(mapped)
    mapped[3, 4] = 7.0
    assert tensor[3, 4] == 7.0
    # Its memory stays as long as the tensor.
    del mapped
    gc.collect()
    assert float(tf.reduce_sum(tensor)) == 7.0


def test_texts_are_taken_from_arrays_and_pandas_alike() -> None:
    lookup = layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")
    x = keras.Input((1,), dtype="string")
    model = keras.Model(x, layers.Dense(1)(lookup(x)))
    model.compile(optimizer="sgd", loss="mse")
    texts = pd.Series(["a", "b", "c", "a"])
    validation = (texts.to_numpy().astype(str), np.ones(4))
    annlib.fit(model, texts, np.ones(4), epochs=1, verbose=0, validation_data=validation)
    expected = model.predict(tf.constant(texts.tolist())[:, None], verbose=0)
    for given in (texts, texts.to_frame(), texts.to_numpy().astype(object), texts.to_numpy().astype(str)):
        np.testing.assert_allclose(annlib.predict(model, given), expected, rtol=1e-6)
    expected_loss = float(np.mean((expected - 1) ** 2))
    assert annlib.evaluate(model, texts, np.ones(4), return_dict=True)["loss"] == pytest.approx(expected_loss, rel=1e-6)
