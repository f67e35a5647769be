"""`fit`: what `keras.Model.fit` does, with whole chunks of steps in one call."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.data.batches import epoch_order
from annlib.errors import ConfigError, NonFiniteLossError
from annlib.training.engine.arguments import callback_list, check_compiled, check_integer
from annlib.training.engine.arrays import Tensors, as_dataset, num_rows, split_off_validation
from annlib.training.engine.compilation import is_distributed
from annlib.training.engine.evaluation import Evaluation
from annlib.training.engine.program import Logs, Program, build, program_for
from annlib.training.engine.replicated import sum_over_replicas

# Python (progress, batch callbacks, Ctrl-C) is met about this often within a long epoch.
CHUNK_S = 0.5
# Steps of a model's first chunks, after which its speed is known: few, for a step may take a second.
FIRST_CHUNK_STEPS = 8


def fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None = None,
    validation_split: float = 0.0,
    validation_data: tuple[Any, ...] | None = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    initial_step: int = 0,
    validation_batch_size: int | None = None,
    seed: int | None = None,
) -> keras.callbacks.History:
    """Trains a compiled Keras model as `keras.Model.fit` does, with the same losses and metrics, faster.

    Batch hooks of callbacks are called at the boundaries of chunks of steps, as Keras does with
    `steps_per_execution`. A model created in the scope of a `tf.distribute.Strategy` is trained on all its replicas;
    every worker passes the whole of x and y and works on its rows of each global batch.

    Args:
        model: a compiled Keras 3 model, built or not, on the TensorFlow backend.
        x: inputs, shape (num_samples, ...): an array, tensor or DataFrame, or a tuple, list or dict of them.
        y: targets, the same kinds.
        batch_size: samples of a global batch, 1 or more; 32 when None.
        epochs: number of the epoch to stop at, so that `epochs - initial_epoch` are trained.
        verbose: 0 silent, 1 or "auto" a progress bar, 2 a line an epoch.
        callbacks: Keras callbacks.
        validation_split: fraction of the last rows to validate on instead of training on them.
        validation_data: (x, y) or (x, y, sample_weight) to validate on after each epoch.
        shuffle: visits the rows in an order that depends on (seed, epoch) alone; False keeps their order.
        class_weight: weight of the loss of each class index.
        sample_weight: weight of each sample's loss, shape (num_samples,), or a structure like y.
        initial_epoch: first epoch, counted from 0; more than 0 goes on with an earlier training.
        initial_step: first step of the first epoch; more than 0 goes on within an epoch, with the metrics as they are:
            `set_metric_state` puts back those of the steps before.
        validation_batch_size: batch size of the validation; `batch_size` when None.
        seed: seed of the shuffling, 0 or more. None draws one from NumPy's global generator, which
            `keras.utils.set_random_seed` seeds; with several replicas, which must agree, None is 0.

    Returns:
        The `keras.callbacks.History` of the metrics of each epoch.

    Raises:
        ConfigError: an argument is out of range, or the model is not compiled.
        DataError: the arrays do not fit together.
        NonFiniteLossError: the loss became NaN or infinite; the message names the epoch and the learning rate.
    """
    check_compiled(model)
    batch_size = check_integer("batch_size", 32 if batch_size is None else batch_size, minimum=1)
    epochs = check_integer("epochs", epochs, minimum=0)
    initial_epoch = check_integer("initial_epoch", initial_epoch, minimum=0)
    data = as_dataset(x, y, sample_weight, class_weight=class_weight)
    validation = as_dataset(*_check_validation_data(validation_data)) if validation_data is not None else None
    if validation is None and validation_split:
        data, validation = split_off_validation(data, validation_split)
    session = _Session(model, data, batch_size, shuffle=shuffle, seed=_choose_seed(model, seed))
    check_integer("initial_step", initial_step, minimum=0)
    session.prepare(num_epochs=epochs - initial_epoch)
    evaluation = None
    if validation is not None:
        rows = batch_size if validation_batch_size is None else validation_batch_size
        rows = check_integer("validation_batch_size", rows, minimum=1)
        evaluation = Evaluation(model, validation, rows, epochs - initial_epoch)
    hooks = callback_list(callbacks, model, verbose, epochs, session.num_steps)
    return _train(session, evaluation, hooks, initial_epoch, initial_step, epochs)


def _train(
    session: "_Session",
    evaluation: "Evaluation | None",
    callbacks: keras.callbacks.CallbackList,
    initial_epoch: int,
    initial_step: int,
    epochs: int,
) -> keras.callbacks.History:
    model = session.model
    model.stop_training = False
    logs: Logs = {}
    callbacks.on_train_begin()
    # A callback such as BackupAndRestore may move the start.
    for epoch in range(model._initial_epoch or initial_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        logs = session.run_epoch(epoch, initial_step if epoch == initial_epoch else 0, callbacks)
        if evaluation is not None:
            logs.update({f"val_{name}": value for name, value in evaluation.run(callbacks).items()})
        callbacks.on_epoch_end(epoch, logs)
        if session.should_stop():
            break
    if epochs > 0 and model.optimizer is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    callbacks.on_train_end(logs)
    return model.history


class _Session:
    """The training of one model on one data set."""

    def __init__(
        self, model: keras.Model, data: tuple[Tensors, ...], batch_size: int, *, shuffle: bool, seed: int
    ) -> None:
        self.model = model
        self.num_steps = math.ceil(num_rows(data) / batch_size)
        self._data = data
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._program: Program
        self._compiled = False
        self._step_s: float | None = None

    def prepare(self, *, num_epochs: int) -> None:
        build(self.model, self._data)
        self._program = program_for(self.model, self._batch_size, training=True, num_steps=num_epochs * self.num_steps)

    def run_epoch(self, epoch: int, first: int, callbacks: keras.callbacks.CallbackList) -> Logs:
        """Runs the steps from `first` on."""
        rows = None
        if self._shuffle:
            rows = tf.constant(epoch_order(num_rows(self._data), seed=self._seed, epoch=epoch))
        logs: Logs = {}
        while first < self.num_steps and not (first and self.model.stop_training and not is_distributed(self.model)):
            last = min(first + self._chunk_steps(), self.num_steps)
            callbacks.on_train_batch_begin(first)
            started = time.perf_counter()
            logs = self._program.run(self._data, rows, first, last)
            self._learn_speed(first, last, time.perf_counter() - started)
            self._check_finite(logs, epoch)
            callbacks.on_train_batch_end(last - 1, logs)
            first = last
        return logs

    def should_stop(self) -> bool:
        """Tells whether a callback asked to stop; all workers get the same answer, so that none waits for another."""
        if not is_distributed(self.model):
            return bool(self.model.stop_training)
        votes = sum_over_replicas(self.model.distribute_strategy, [float(self.model.stop_training)])
        self.model.stop_training = votes[0] > 0
        return bool(self.model.stop_training)

    def _chunk_steps(self) -> int:
        if self._step_s is None:
            return FIRST_CHUNK_STEPS
        return max(1, round(CHUNK_S / self._step_s))

    def _learn_speed(self, first: int, last: int, seconds: float) -> None:
        # The very first call also traces and compiles, so its time says nothing about the steps.
        if not self._compiled:
            self._compiled = True
            return
        step_s = seconds / (last - first)
        if is_distributed(self.model):
            # A chunk ends with a collective, so all workers need chunks of the same size. They agree on one speed,
            # once: clocks differ.
            if self._step_s is not None:
                return
            strategy = self.model.distribute_strategy
            step_s = sum_over_replicas(strategy, [step_s])[0] / strategy.num_replicas_in_sync
        self._step_s = step_s

    def _check_finite(self, logs: Logs, epoch: int) -> None:
        loss = logs.get("loss")
        if loss is None or np.all(np.isfinite(loss)):
            return
        optimizer = self.model.optimizer
        rate = current_learning_rate(optimizer) if optimizer is not None else math.nan
        raise NonFiniteLossError(
            f"the loss became {loss} in epoch {epoch + 1} with learning rate {rate:g}: expected a finite loss. Try a "
            "smaller learning rate, or clipnorm=1.0 in the optimizer, and check the data for huge or missing values."
        )


def current_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step, also of a schedule and under a distribution strategy."""
    return float(tf.convert_to_tensor(optimizer.learning_rate).numpy())


def _choose_seed(model: keras.Model, seed: int | None) -> int:
    if seed is not None:
        return check_integer("seed", seed, minimum=0)
    # NumPy's global generator, because that is the one `keras.utils.set_random_seed` seeds.
    return 0 if is_distributed(model) else int(np.random.randint(2**31))  # noqa: NPY002


def _check_validation_data(validation_data: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ConfigError(
            "validation_data must be (x, y) or (x, y, sample_weight): received "
            f"{type(validation_data).__name__}. Pass a tuple of two or three."
        )
    return tuple(validation_data)
