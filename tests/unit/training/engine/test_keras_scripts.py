"""Scripts as people have them: what `keras.Model.fit` takes, `annlib.fit` takes, with the same numbers."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf

import annlib
from annlib.errors import AnnlibError, ConfigError, DataError
from annlib.training.engine.batching import evaluation_batch_size

layers, ops = keras.layers, keras.ops
rng = np.random.default_rng(8)
X = rng.normal(size=(64, 6)).astype("float32")
Y = (X[:, :1] * 2 + 1).astype("float32")
ARGUMENTS: dict[str, Any] = {"epochs": 2, "batch_size": 16, "shuffle": False, "verbose": 0}


def dense(**arguments: Any) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    model.compile("sgd", "mse", **arguments)
    return model


class Gan(keras.Model):
    """As in Keras' examples: two models, two optimizers, no `call`."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(1)])
        self.generator = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(6)])
        self.trackers = [keras.metrics.Mean(name="d_loss"), keras.metrics.Mean(name="g_loss")]
        self.seeds = keras.random.SeedGenerator(3)

    @property
    def metrics(self) -> list[keras.Metric]:
        return self.trackers

    def compile(self) -> None:
        super().compile()
        self.optimizers = [keras.optimizers.Adam(), keras.optimizers.Adam()]
        self.entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, real: Any) -> Any:
        size = ops.shape(real)[0]
        noise = keras.random.normal((size, 4), seed=self.seeds)
        labels = ops.concatenate([ops.ones((size, 1)), ops.zeros((size, 1))])
        with tf.GradientTape() as tape:
            d_loss = self.entropy(labels, self.discriminator(ops.concatenate([real, self.generator(noise)])))
        weights = self.discriminator.trainable_variables
        self.optimizers[0].apply(tape.gradient(d_loss, weights), weights)
        with tf.GradientTape() as tape:
            g_loss = self.entropy(ops.ones((size, 1)), self.discriminator(self.generator(noise)))
        weights = self.generator.trainable_variables
        self.optimizers[1].apply(tape.gradient(g_loss, weights), weights)
        for tracker, loss in zip(self.trackers, (d_loss, g_loss), strict=True):
            tracker.update_state(loss)
        return {tracker.name: tracker.result() for tracker in self.trackers}


class Autoencoder(keras.Model):
    """Steps of its own that take x as it is, and no `call`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = layers.Dense(2), layers.Dense(6)

    def error(self, data: Any) -> Any:
        return ops.mean(ops.square(data - self.decoder(self.encoder(data))))

    def train_step(self, data: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = self.error(data)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self._loss_tracker.update_state(loss)
        return {"loss": self._loss_tracker.result()}

    def test_step(self, data: Any) -> Any:
        self._loss_tracker.update_state(self.error(data))
        return {"loss": self._loss_tracker.result()}


class OwnLoop(keras.Model):
    """The loop of Keras' guide, whose logs hold those of the compiled metrics in a dict."""

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=predicted)
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss)
            else:
                metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


class OwnMetrics(keras.Model):
    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        found = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**found, "bias": ops.mean(y_pred - y)}


class NeedsValues(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x: Any) -> Any:
        assert np.isfinite(x.numpy()).all()
        return self.dense(x)


class InPython(keras.Model):
    """Steps of its own that need values, and no `call`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(1)

    def train_step(self, data: Any) -> Any:
        x, y = data
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(self.dense(x) - y))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "norm": float(np.linalg.norm(gradients[0].numpy()))}

    def test_step(self, data: Any) -> Any:
        x, y = data
        return {"median": float(np.median(np.abs(self.dense(x).numpy() - y.numpy())))}


class AddsLoss(layers.Layer):
    def call(self, both: Any) -> Any:
        self.add_loss(ops.mean(ops.square(both[0] - both[1])))
        return both[1]


def gan() -> keras.Model:
    model = Gan()
    model.compile()
    return model


def autoencoder() -> keras.Model:
    model = Autoencoder()
    model.compile(keras.optimizers.Adam())
    return model


def of_class(kind: type[keras.Model]) -> keras.Model:
    inputs = keras.Input((6,))
    model = kind(inputs, layers.Dense(1)(inputs))
    model.compile("adam", "mse", metrics=["mae"])
    return model


def needs_values() -> keras.Model:
    model = NeedsValues()
    model.compile("sgd", "mse", metrics=["mae"], run_eagerly=True)
    return model


def in_python() -> keras.Model:
    model = InPython()
    model.compile("sgd", run_eagerly=True)
    return model


def without_a_loss() -> keras.Model:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(1, name="b")(inputs)])
    model.compile("sgd", ["mse", None])
    return model


def adds_loss() -> keras.Model:
    inputs = keras.Input((6,))
    model = keras.Model(inputs, AddsLoss()([inputs, layers.Dense(6)(inputs)]))
    model.compile("sgd")
    return model


@pytest.mark.parametrize(
    ("build", "data", "validation"),
    [
        (gan, (X,), None),
        (autoencoder, (X,), (X,)),
        (lambda: of_class(OwnLoop), (X, Y), (X, Y)),
        (lambda: of_class(OwnMetrics), (X, Y), (X, Y)),
        (needs_values, (X, Y), (X, Y)),
        (adds_loss, (X,), (X, None)),
        (in_python, (X, Y), (X, Y)),
        (without_a_loss, (X, [Y, None]), (X, [Y, None])),
    ],
    ids=["gan", "autoencoder", "own loop", "own metrics", "eager", "adds its loss", "in Python", "without a loss"],
)
def test_a_model_of_ones_own_trains_as_in_keras(
    build: Callable[[], keras.Model], data: tuple[Any, ...], validation: tuple[Any, ...] | None
) -> None:
    ours, theirs = [], []
    for fit, found in ((annlib.fit, ours), (keras.Model.fit, theirs)):
        keras.utils.set_random_seed(1)
        model = build()
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", "Gradients do not exist")
            history = fit(model, *data, **ARGUMENTS, validation_data=validation, validation_batch_size=16).history
        found += [history, model.get_weights()]
    assert set(ours[0]) == set(theirs[0])
    for name, values in theirs[0].items():
        np.testing.assert_allclose(ours[0][name], values, rtol=1e-5, err_msg=name)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_an_eager_model_predicts_eagerly() -> None:
    model = needs_values()
    np.testing.assert_allclose(annlib.predict(model, X), model.predict(X, verbose=0), rtol=1e-6)


def test_the_most_epochs_that_keras_is_told_are_trained() -> None:
    keras.config.set_max_epochs(1)
    try:
        with pytest.warns(UserWarning, match="Limiting epochs to 1"):
            history = annlib.fit(dense(), X, Y, **ARGUMENTS)
    finally:
        keras.config.set_max_epochs(None)
    assert history.epoch == [0]


@pytest.mark.parametrize("call", [annlib.fit, annlib.evaluate, lambda model, x, y: annlib.predict(model, x)])
def test_a_limit_of_steps_is_one_line(call: Callable[..., Any]) -> None:
    keras.config.set_max_steps_per_epoch(2)
    try:
        with pytest.raises(ConfigError, match="max_steps_per_epoch is 2: expected none"):
            call(dense(), X, Y)
    finally:
        keras.config.set_max_steps_per_epoch(None)


@pytest.mark.parametrize("verbose", ["auto", 0])
def test_a_history_has_the_parameters_of_keras(verbose: Any) -> None:
    arguments = {**ARGUMENTS, "verbose": verbose, "epochs": 1}
    assert annlib.fit(dense(), X, Y, **arguments).params == dense().fit(X, Y, **arguments).params


class Classifier(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def predict_step(self, data: Any) -> Any:
        return ops.argmax(self(data), -1)


def test_a_predict_step_of_ones_own_takes_x_as_it_is() -> None:
    model = Classifier()
    expected = model.predict(X, verbose=0)
    np.testing.assert_array_equal(annlib.predict(model, X), expected)
    np.testing.assert_array_equal(annlib.predict(model, X, 20, verbose=0), expected)


FRAME = pd.DataFrame(
    {"a": [0.1, 0.2, 0.3] * 10, "b": [True, False, True] * 10, "c": pd.array([1, 2, 4] * 10, dtype="Int64")}
)


@pytest.mark.parametrize("columns", [["a", "b"], ["a", "c"], ["b", "c"], ["a", "b", "c"]])
def test_a_table_of_several_types_is_numbers(columns: list[str]) -> None:
    model = keras.Sequential([keras.Input((len(columns),)), layers.Dense(1)])
    model.compile("sgd", "mse")
    frame = FRAME[columns]
    np.testing.assert_allclose(annlib.predict(model, frame), model.predict(frame.astype("float32"), verbose=0))
    assert np.isfinite(annlib.fit(model, frame, FRAME["c"], verbose=0).history["loss"]).all()


def test_what_keras_takes_by_position_is_taken() -> None:
    history = annlib.fit(dense(), X, Y, 16, 2, 0, callbacks=keras.callbacks.TerminateOnNaN()).history
    assert len(history["loss"]) == 2
    assert annlib.evaluate(dense(), X, Y, 16, 0) == pytest.approx(dense().evaluate(X, Y, 16, 0), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: annlib.fit(dense(), X), DataError, "y is missing: expected targets"),
        (lambda: annlib.evaluate(dense(), X), DataError, "y is missing: expected targets"),
        (lambda: annlib.fit(dense(), X, Y, validation_data=(X,)), DataError, "y is missing: expected targets"),
        (lambda: annlib.fit(dense, X, Y), ConfigError, "model is a function: expected a keras.Model"),
        (lambda: annlib.fit(dense(), X, Y, class_weight="balanced"), ConfigError, "class_weight must be a dict"),
        (lambda: annlib.fit(dense(), tf.ragged.constant([[1.0], []]), Y), DataError, "x holds a RaggedTensor"),
        (lambda: annlib.fit(dense(), tf.sparse.from_dense(X), Y), DataError, "x holds a SparseTensor"),
        (lambda: annlib.fit(dense(), scipy.sparse.csr_matrix(X), Y), DataError, "x holds a csr_matrix"),
        (lambda: annlib.fit(dense(), iter([1]), Y), DataError, "comes as StreamedData"),
    ],
)
def test_what_cannot_be_taken_is_one_line(call: Callable[[], Any], kind: type[AnnlibError], text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        call()
    assert "\n" not in str(caught.value)


INPUTS = keras.Input((6,))


@pytest.mark.parametrize(
    ("outputs", "is_row_by_row"),
    [
        (layers.Dense(1)(INPUTS), True),
        (layers.Dense(1)(layers.BatchNormalization()(INPUTS)), True),
        (layers.LayerNormalization()(INPUTS), True),
        (layers.Softmax()(INPUTS), True),
        (layers.Concatenate()([INPUTS, INPUTS]), True),
        (ops.squeeze(layers.Dense(1)(INPUTS), -1), False),
        (layers.Reshape(())(layers.Dense(1)(INPUTS)), False),
        (INPUTS - ops.mean(INPUTS, axis=0, keepdims=True), False),
        (layers.Softmax(axis=0)(INPUTS), False),
        (layers.Softmax(axis=-2)(INPUTS), False),
        (layers.UnitNormalization(axis=0)(INPUTS), False),
        (layers.Lambda(lambda x: x - ops.mean(x, 0))(INPUTS), False),
        (layers.Dense(1, activation=lambda x: ops.softmax(x, axis=0))(INPUTS), False),
        (layers.Dense(1, activity_regularizer="l2")(INPUTS), False),
    ],
)
def test_a_validation_takes_more_rows_where_the_result_is_the_same(outputs: Any, is_row_by_row: bool) -> None:
    model = keras.Model(INPUTS, outputs)
    model.compile("sgd", "mse", metrics=["mae"])
    assert evaluation_batch_size(model, 32) == (1024 if is_row_by_row else 32)


def test_metrics_of_outputs_of_one_number_are_those_of_keras() -> None:
    def build() -> keras.Model:
        keras.utils.set_random_seed(1)
        model = keras.Model(INPUTS, ops.squeeze(layers.Dense(1)(INPUTS), -1))
        model.compile("sgd", "mse", metrics=["mae", "cosine_similarity"])
        return model

    arguments = {**ARGUMENTS, "validation_split": 0.4}
    ours = annlib.fit(build(), X, Y[:, 0], **arguments).history
    theirs = build().fit(X, Y[:, 0], **arguments).history
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)


class Warmup(keras.callbacks.Callback):
    """Changes the learning rate for each batch, keeps the losses, and stops within the second epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[int, float]] = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 0.01 * (batch + 1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append((batch, logs["loss"]))
        self.model.stop_training = len(self.losses) == 6


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_a_callback_with_batch_hooks_has_them_called_as_by_keras(steps_per_execution: int) -> None:
    ours, theirs = Warmup(), Warmup()
    model, reference = (dense(steps_per_execution=steps_per_execution) for _ in range(2))
    annlib.fit(model, X, Y, **ARGUMENTS, callbacks=[ours])
    reference.fit(X, Y, **ARGUMENTS, callbacks=[theirs])
    assert len(ours.losses) == {1: 6, 2: 4}[steps_per_execution]
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-5)
    for weight, expected in zip(model.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: keras.callbacks.ModelCheckpoint(f"{path}/{{epoch}}-{{batch}}.weights.h5", save_freq=3),
        lambda path: keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: (path / f"{batch}.txt").write_text(f"{logs['loss']:.4f}")
        ),
    ],
)
def test_what_is_written_for_batches_is_what_keras_writes(
    write: Callable[[Path], keras.callbacks.Callback], tmp_path: Path
) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    annlib.fit(dense(), X, Y, **ARGUMENTS, callbacks=[write(tmp_path / "ours")])
    dense().fit(X, Y, **ARGUMENTS, callbacks=[write(tmp_path / "theirs")])
    ours, theirs = (sorted(path.name for path in (tmp_path / side).iterdir()) for side in ("ours", "theirs"))
    assert ours == theirs
    assert theirs
    for path in (tmp_path / "ours").glob("*.txt"):
        assert path.read_text() == (tmp_path / "theirs" / path.name).read_text()


def difference(a: Any, b: Any) -> Any:
    return ops.abs(a - b)


def test_a_series_is_a_column_as_in_keras() -> None:
    target = pd.Series(Y[:, 0])
    ours = annlib.fit(dense(metrics=[difference]), X, target, **ARGUMENTS).history
    theirs = dense(metrics=[difference]).fit(X, target, **ARGUMENTS).history
    for name, values in theirs.items():
        np.testing.assert_allclose(ours[name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("loss", "metrics"),
    [
        ("mse", [keras.metrics.CosineSimilarity(axis=0)]),
        ("mse", [keras.metrics.PearsonCorrelation(axis=0)]),
        (keras.losses.CosineSimilarity(axis=0), []),
        (keras.losses.SparseCategoricalCrossentropy(ignore_class=-1), []),
    ],
)
def test_what_counts_along_the_rows_is_validated_in_batches_of_the_training(loss: Any, metrics: list[Any]) -> None:
    model = dense()
    model.compile("sgd", loss, metrics=metrics)
    annlib.fit(model, X, Y, **{**ARGUMENTS, "epochs": 0})
    model._symbolic_build(data_batch=(keras.KerasTensor((None, 6)), keras.KerasTensor((None, 1))))
    assert evaluation_batch_size(model, 16) == 16


def test_a_profile_of_some_batches_counts_batches(tmp_path: Path) -> None:
    seen: list[int] = []
    board = keras.callbacks.TensorBoard(tmp_path, profile_batch=(2, 3))
    board.on_train_batch_end = lambda batch, logs=None: seen.append(batch)
    annlib.fit(dense(), X, Y, **ARGUMENTS, callbacks=[board])
    assert seen == [0, 1, 2, 3] * 2


def test_evaluate_gives_names_in_the_order_of_keras() -> None:
    model = dense(metrics=["mae", "r2_score"])
    theirs = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert list(annlib.evaluate(model, X, Y, return_dict=True)) == list(theirs)


class Least(keras.metrics.Metric):
    """Begins far above, not at 0."""

    def __init__(self) -> None:
        super().__init__(name="least")
        self.value = self.add_weight(name="value", initializer=keras.initializers.Constant(1e9))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        self.value.assign(ops.minimum(self.value, ops.min(ops.abs(y_true - y_pred))))

    def result(self) -> Any:
        return self.value + 0.0

    def reset_state(self) -> None:
        self.value.assign(1e9)


def test_a_metric_is_reset_by_its_own_method() -> None:
    options = annlib.StepOptions(gradient_accumulation=2)
    ours = annlib.fit(dense(metrics=[Least()]), X, Y, **ARGUMENTS, options=options).history
    theirs = dense(metrics=[Least()]).fit(X, Y, **ARGUMENTS).history
    np.testing.assert_allclose(ours["least"], theirs["least"], rtol=1e-4)
