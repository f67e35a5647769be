"""What a benchmark worker runs: one process of several under `MultiWorkerMirroredStrategy`. All workers call the same.

Functions return seconds or bytes. Arrays are random: their values cost no time.
"""

import functools
import itertools
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.benchmark.cases import CASES
from annlib.benchmark.scaling import NUM_CLASSES, NUM_FEATURES
from annlib.data.batches import epoch_order
from annlib.memory import peak_memory_bytes
from annlib.models.targets import ClassificationTask
from annlib.training.devices import multi_worker_strategy
from annlib.training.engine import fit

LEARNING_RATE = 0.01
# Rows of a batch while memory is measured: large, because the memory is that of the data and the time does not count.
MEMORY_BATCH_SIZE = 512


_strategies: list[tf.distribute.Strategy] = []


def join(side: str) -> int:
    """Waits until all workers are there; returns how many.

    Args:
        side: "annlib" trains under annlib's own strategy, "bare" under TensorFlow's as it comes.
    """
    is_annlib = side == "annlib"
    _strategies[:] = [
        multi_worker_strategy(has_gpu=False) if is_annlib else tf.distribute.MultiWorkerMirroredStrategy()
    ]
    return int(strategy().num_replicas_in_sync)


def strategy() -> tf.distribute.Strategy:
    """Returns this process' strategy."""
    return _strategies[0]


@functools.cache
def _all_reduces(num_floats: int) -> Any:
    def all_reduce(values: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        # A loop's variable has no device, and the strategy sends by device.
        values = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(values))
        return tf.ensure_shape(values, [num_floats])

    def one_more(index: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return index + 1, strategy().run(all_reduce, args=(values,))

    def run(count: tf.Tensor) -> tf.Tensor:
        # Zeros stay zeros; each sum waits for the one before.
        start = [0, tf.zeros(num_floats)]
        return tf.while_loop(lambda index, _: index < count, one_more, start, parallel_iterations=1)[0]

    return tf.function(run, autograph=False)


def all_reduce_s(num_floats: int, count: int) -> float:
    """Returns the seconds of one bare all-reduce of float32 values, of `count` in a row."""
    run = _all_reduces(num_floats)
    return _seconds(lambda: run(tf.constant(count)).numpy()) / count


def annlib_step_s(hidden: tuple[int, ...], batch_size: int, steps: int) -> float:
    """Returns the seconds of a step of `annlib.fit`, of an epoch of `steps` steps of a global batch."""
    model = _annlib_model(hidden)
    x, y = _arrays(batch_size * steps)
    return _seconds(lambda: fit(model, x, y, batch_size=batch_size, verbose=0, seed=0)) / steps


@functools.cache
def _annlib_model(hidden: tuple[int, ...]) -> keras.Model:
    task = ClassificationTask(kind="multiclass", num_classes=NUM_CLASSES, encoding="sparse")
    layers = [keras.Input((NUM_FEATURES,)), *(keras.layers.Dense(size, activation="relu") for size in hidden)]
    with strategy().scope():
        model = keras.Sequential([*layers, keras.layers.Dense(NUM_CLASSES, activation=task.output_activation)])
        model.compile(optimizer=keras.optimizers.SGD(LEARNING_RATE), loss=task.loss)
    return model


def bare_step_s(hidden: tuple[int, ...], batch_size: int, steps: int) -> float:
    """Returns what `annlib_step_s` does of a loop in TensorFlow alone, for one model of dense layers."""
    x, y = _arrays(batch_size * steps)
    run, rows = _bare_loop(hidden, batch_size), tf.constant(epoch_order(batch_size * steps, seed=0, epoch=0))
    return _seconds(lambda: run(x, y, rows).numpy()) / steps


@functools.cache
def _bare_variables(hidden: tuple[int, ...]) -> list[tf.Variable]:
    # The same on each worker, and of its own, so that an update passes no layer of the strategy.
    initializer = keras.initializers.GlorotUniform(seed=0)
    sizes = (NUM_FEATURES, *hidden, NUM_CLASSES)
    layers = [(initializer(pair), tf.zeros(pair[1])) for pair in itertools.pairwise(sizes)]
    return [tf.Variable(value) for layer in layers for value in layer]


@functools.cache
def _bare_loop(hidden: tuple[int, ...], batch_size: int) -> Any:
    """Returns a function of (x, y, order of rows) that runs an epoch: gather, gradient, one all-reduce, update."""
    variables = _bare_variables(hidden)
    local_size = batch_size // strategy().num_replicas_in_sync
    first = strategy().cluster_resolver.task_id * local_size

    def step(x: tf.Tensor, y: tf.Tensor, rows: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            outputs = tf.gather(x, rows)
            for index in range(0, len(variables), 2):
                outputs = tf.nn.bias_add(outputs @ variables[index], variables[index + 1])
                outputs = tf.nn.relu(outputs) if index < len(variables) - 2 else outputs
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(y, rows), outputs)
            loss = tf.reduce_sum(losses) / batch_size
        flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in tape.gradient(loss, variables)], 0)
        flat = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
        parts = tf.split(flat, [int(np.prod(variable.shape)) for variable in variables])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign_sub(LEARNING_RATE * tf.reshape(part, variable.shape))

    def run(x: tf.Tensor, y: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        def body(start: tf.Tensor) -> tuple[tf.Tensor]:
            mine = tf.ensure_shape(tf.slice(rows, [start + first], [local_size]), [local_size])
            strategy().run(step, args=(x, y, mine))
            return (start + batch_size,)

        return tf.while_loop(lambda start: start < tf.size(rows), body, [0], parallel_iterations=1)[0]

    return tf.function(run, autograph=False)


@functools.lru_cache(maxsize=16)
def _arrays(num_rows: int) -> tuple[tf.Tensor, tf.Tensor]:
    generator = np.random.default_rng(0)
    x = generator.random((num_rows, NUM_FEATURES), np.float32)
    return tf.constant(x), tf.constant(generator.integers(0, NUM_CLASSES, num_rows).astype(np.int32))


def peak_memory_of_annlib(data_dir: Path | None) -> int:
    """Trains an epoch of Fashion-MNIST with the other workers; returns the bytes of this process."""
    train, _ = CASES["fashion-mnist"].load(data_dir)
    with strategy().scope():
        model = CASES["fashion-mnist"].build_model(LEARNING_RATE)
    fit(model, train.x[0], train.y, batch_size=MEMORY_BATCH_SIZE, verbose=0, seed=0)
    return peak_memory_bytes()


def peak_memory_of_keras(data_dir: Path | None) -> int:
    """Trains an epoch of Fashion-MNIST by `keras.Model.fit`; returns the bytes of this process.

    Keras gets float32 arrays, as its guides prepare images.
    """
    train, _ = CASES["fashion-mnist"].load(data_dir)
    model = CASES["fashion-mnist"].build_model(LEARNING_RATE)
    model.fit(train.x[0].astype(np.float32), train.y, batch_size=MEMORY_BATCH_SIZE, verbose=0)
    return peak_memory_bytes()


def _seconds(run: Any) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
