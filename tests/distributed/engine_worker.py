"""One process of the tests of the engine under a distribution strategy; also holds the cases for their reference.

    python engine_worker.py OUT.npz multi|mirrored BATCH_SIZE CASE...

`multi` expects TF_CONFIG in the environment; `mirrored` splits the CPU into two logical devices.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import annlib
from annlib.errors import ConfigError
from annlib.training.engine import exchange
from annlib.training.engine.factors import Factors

EPOCHS = 3
layers, optimizers = keras.layers, keras.optimizers
rng = np.random.default_rng(11)


class Case(NamedTuple):
    rows: int
    model: Callable[[], keras.Model]
    optimizer: Callable[[], keras.optimizers.Optimizer]
    binary: bool = False
    sequences: bool = False
    sample_weight: bool = False
    options: annlib.StepOptions = annlib.StepOptions()


X = rng.normal(size=(103, 6)).astype("float32")
Y = rng.integers(0, 3, 103)
SAMPLE_WEIGHT = rng.random(103).astype("float32")


def dense() -> keras.Model:
    hidden = layers.Dense(8, activation="tanh", kernel_regularizer="l2")
    return keras.Sequential([keras.Input((6,)), hidden, layers.Dense(3, activation="softmax")])


def normalized() -> keras.Model:
    hidden = [layers.Dense(8, activation="tanh"), layers.BatchNormalization(momentum=0.8)]
    return keras.Sequential([keras.Input((6,)), *hidden, layers.Dense(3, activation="softmax")])


def binary() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), layers.Dense(1, activation="sigmoid")])


class Lookups(layers.Layer):
    """Looks up codes, which batches have in common and repeat, with one table twice, and the positions of all rows."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.signs, self.positions = layers.Embedding(5, 3), layers.Embedding(2, 3), layers.Embedding(6, 3)

    def build(self, input_shape: Any) -> None:
        for table in (self.codes, self.signs, self.positions):
            table.build(None)
        super().build(input_shape)

    def call(self, x: Any) -> Any:
        signs = self.signs(keras.ops.cast(x > 0, "int32")) + self.signs(keras.ops.cast(x > 1, "int32"))
        codes = self.codes(keras.ops.cast(keras.ops.clip(x + 2, 0, 4), "int32"))
        return codes + signs + self.positions(keras.ops.arange(6))


def embedded() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), Lookups(), layers.Flatten(), layers.Dense(3, activation="softmax")])


class Reshaped(layers.Layer):
    """Six numbers as three time steps of two, of which those are masked whose first number is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.supports_masking = True

    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (-1, 3, 2))

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        return keras.ops.reshape(x, (-1, 3, 2))[..., 0] >= 0


def masked() -> keras.Model:
    steps = [layers.SimpleRNN(4, return_sequences=True), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((6,)), Reshaped(), *steps])


def wide() -> keras.Model:
    """Kernels of 80 x 80 whose gradients have factors of fewer values: used twice, once and regularized, once."""
    inputs = keras.Input((6,))
    twice = layers.Dense(80, activation="tanh")
    regularized = layers.Dense(80, activation="tanh", kernel_regularizer="l2")
    x = regularized(twice(twice(layers.Dense(80, activation="tanh")(inputs))))
    outputs = layers.Dense(3, activation="softmax")(layers.Dense(80, activation="tanh")(x))
    return keras.Model(inputs, outputs)


class OwnStep(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.out = layers.Dense(3, activation="softmax")

    def call(self, x: Any) -> Any:
        return self.out(x)

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def _sgd() -> keras.optimizers.Optimizer:
    return optimizers.SGD(0.05, momentum=0.5)


def _adam() -> keras.optimizers.Optimizer:
    return optimizers.Adam(0.01, clipnorm=0.1)


def _adamw() -> keras.optimizers.Optimizer:
    return optimizers.AdamW(optimizers.schedules.ExponentialDecay(0.01, 5, 0.8), global_clipnorm=0.5)


# 103 rows in batches of 16 leave 7 rows, 97 rows leave one, which is fewer than there are workers.
CASES = {
    "sgd": Case(103, dense, _sgd),
    "adam-clipnorm": Case(103, dense, _adam),
    "adamw-schedule": Case(103, dense, _adamw),
    "batch_normalization": Case(103, normalized, _sgd),
    "sample_weight": Case(103, dense, _sgd, sample_weight=True),
    "last_batch_of_one_row": Case(97, dense, _sgd),
    "auc": Case(103, binary, _sgd, binary=True),
    # Keras squares the gradients of rows that are looked up twice one by one.
    "embedded": Case(97, embedded, _adam),
    "embedded-accumulated": Case(97, embedded, _adam, options=annlib.StepOptions(gradient_accumulation=3)),
    "masked": Case(97, masked, _adam, sequences=True),
    "wide": Case(97, wide, _adam),
    # Of 16 rows, two replicas have 8, three have 5 or 6; the last batch has fewer rows than micro-batches.
    "accumulated": Case(97, dense, _sgd, options=annlib.StepOptions(gradient_accumulation=3)),
    "accumulated-weights": Case(
        103, dense, _adam, sample_weight=True, options=annlib.StepOptions(gradient_accumulation=4)
    ),
}
# These do not follow the curve of one process.
OTHER_CASES = {
    "float16": Case(103, dense, _sgd, options=annlib.StepOptions(compression="float16")),
    "bfloat16": Case(103, dense, _sgd, options=annlib.StepOptions(compression="bfloat16")),
    "float16-wide": Case(97, wide, _adam, options=annlib.StepOptions(compression="float16")),
    "float16-embedded": Case(97, embedded, _adam, options=annlib.StepOptions(compression="float16")),
    "sync_every-embedded": Case(103, embedded, _adam, options=annlib.StepOptions(sync_every=2)),
    "sync_every-masked": Case(103, masked, _adam, sequences=True, options=annlib.StepOptions(sync_every=2)),
    "sync_every": Case(103, dense, _sgd, options=annlib.StepOptions(sync_every=2)),
    "sync_every-adam": Case(103, dense, _adam, options=annlib.StepOptions(sync_every=3)),
}
ALL_CASES = CASES | OTHER_CASES


def compiled(case: Case) -> keras.Model:
    keras.utils.set_random_seed(1)
    model = case.model()
    if case.binary:
        metrics = [keras.metrics.AUC(name="auc"), keras.metrics.MeanSquaredError(name="mse")]
        model.compile(optimizer=case.optimizer(), loss="binary_crossentropy", metrics=metrics)
    else:
        weighted = [keras.metrics.SparseCategoricalCrossentropy(name="cce")] if case.sample_weight else None
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer=case.optimizer(), loss=loss, metrics=["accuracy"], weighted_metrics=weighted)
    return model


def data(case: Case) -> tuple[np.ndarray, ...]:
    y = (Y[: case.rows, None] > 0).astype("float32") if case.binary else Y[: case.rows]
    y = np.stack([y, Y[::-1][: case.rows], y], axis=1) if case.sequences else y
    parts = (X[: case.rows], y)
    return (*parts, SAMPLE_WEIGHT[: case.rows]) if case.sample_weight else parts


def arguments(case: Case, batch_size: int) -> dict[str, Any]:
    parts = data(case)
    weight = {"sample_weight": parts[2]} if case.sample_weight else {}
    names = dict(zip(("x", "y"), parts[:2], strict=True))
    fixed = {"batch_size": batch_size, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    return {**names, **weight, **fixed, "validation_data": parts}


def make_callbacks(directory: Path) -> list[keras.callbacks.Callback]:
    """Callbacks that change the training, and callbacks that write files."""
    return [
        keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1, min_delta=0.01),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=3, restore_best_weights=True),
        keras.callbacks.ModelCheckpoint(directory / "best.keras", monitor="val_loss", save_best_only=True),
        keras.callbacks.CSVLogger(directory / "log.csv"),
    ]


def callback_arguments() -> dict[str, Any]:
    """Random labels: the validation loss soon rises, so that all of them do something."""
    fixed = {"batch_size": 16, "epochs": 60, "shuffle": False, "verbose": 0}
    return {"x": X[:64], "y": Y[:64], "validation_data": (X[64:], Y[64:]), **fixed}


def error_of(make: Callable[[], keras.Model], optimizer: keras.optimizers.Optimizer, **arguments: Any) -> str:
    model = make()
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy")
    try:
        annlib.fit(model, X, Y, verbose=0, **arguments)
    except ConfigError as error:
        return str(error)
    return ""


def record_factors() -> set[tuple[int, int, int]]:
    """Returns a set that gets (rows of the batch, inputs, outputs) of all kernels whose factors are exchanged."""
    place, found = exchange.place, set()

    def recorded(gradient: Any, own: range, size: int) -> Any:
        if isinstance(gradient, Factors):
            found.add((size, gradient.inputs.shape[1], gradient.upstream.shape[1]))
        return place(gradient, own, size)

    exchange.place = recorded
    return found


def main(out: str, kind: str, batch_size: int, names: list[str]) -> None:
    if kind == "multi":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        rank = strategy.cluster_resolver.task_id
    else:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        rank = 0
    found: dict[str, Any] = {"replicas": strategy.num_replicas_in_sync, "history": {}, "evaluate": {}, "factors": {}}
    arrays = {}
    factors = record_factors()
    for name in names:
        case = ALL_CASES[name]
        with strategy.scope():
            model = compiled(case)
        factors.clear()
        history = annlib.fit(model, **arguments(case, batch_size), options=case.options)
        found["factors"][name] = sorted(factors)
        found["history"][name] = history.history
        parts = dict(zip(("x", "y", "sample_weight"), data(case), strict=False))
        found["evaluate"][name] = annlib.evaluate(model, **parts, batch_size=10, return_dict=True)
        arrays.update({f"{name}/{i}": weight for i, weight in enumerate(model.get_weights())})

    with strategy.scope():
        model = compiled(CASES["sgd"])

    def stop(epoch: int, logs: Any) -> None:
        model.stop_training = epoch == 1

    # Only the last process asks to stop.
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_end=stop)] if rank == _last_rank(strategy) else []
    history = annlib.fit(model, X, Y, batch_size=batch_size, epochs=4, verbose=0, callbacks=callbacks)
    found["epochs_until_stopped"] = len(history.history["loss"])
    with strategy.scope():
        model = compiled(CASES["sgd"])
        model.optimizer.learning_rate = 0.5
    # A directory of its own for each process shows which of them write.
    directory = Path(out).with_suffix(".files")
    directory.mkdir()
    found["callbacks"] = annlib.fit(model, **callback_arguments(), callbacks=make_callbacks(directory)).history
    arrays.update({f"callbacks/{i}": weight for i, weight in enumerate(model.get_weights())})
    found["files"] = sorted(path.name for path in directory.iterdir())
    with strategy.scope():
        backup = [keras.callbacks.BackupAndRestore(directory / "backup")]
        found["backup"] = error_of(dense, optimizers.SGD(0.05), callbacks=backup)
        found["accumulation"] = error_of(dense, optimizers.SGD(0.05, gradient_accumulation_steps=2))
        found["own_step"] = error_of(OwnStep, optimizers.SGD(0.05))
    np.savez(out, found=json.dumps(found), **arrays)


def _last_rank(strategy: tf.distribute.Strategy) -> int:
    resolver = strategy.cluster_resolver
    return resolver.cluster_spec().num_tasks("worker") - 1 if resolver is not None and resolver.cluster_spec() else 0


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
