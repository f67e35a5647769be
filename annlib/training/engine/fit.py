"""`fit`, `evaluate` and `predict`: what the methods of `keras.Model` do, with whole chunks of steps in one call."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.data.batches import epoch_order
from annlib.errors import ConfigError, NonFiniteLossError
from annlib.training.engine.arrays import Tensors, as_dataset, num_rows, split_off_validation
from annlib.training.engine.compilation import choose_compilation, is_distributed
from annlib.training.engine.program import Logs, Program
from annlib.training.engine.replicated import sum_over_replicas

logger = logging.getLogger(__name__)

# Python (progress, batch callbacks, Ctrl-C) is met about this often within a long epoch.
CHUNK_S = 0.5
# Steps of a model's first chunks, after which its speed is known.
FIRST_CHUNK_STEPS = 64
PREDICT_BATCH_SIZE = 1024


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
    _check_compiled(model)
    batch_size = _check_integer("batch_size", 32 if batch_size is None else batch_size, minimum=1)
    epochs = _check_integer("epochs", epochs, minimum=0)
    initial_epoch = _check_integer("initial_epoch", initial_epoch, minimum=0)
    data = as_dataset(x, y, sample_weight, class_weight=class_weight)
    validation = as_dataset(*_check_validation_data(validation_data)) if validation_data is not None else None
    if validation is None and validation_split:
        data, validation = split_off_validation(data, validation_split)
    session = _Session(model, data, batch_size, shuffle=shuffle, seed=_choose_seed(model, seed))
    session.prepare(num_epochs=epochs - initial_epoch)
    evaluation = None
    if validation is not None:
        rows = batch_size if validation_batch_size is None else validation_batch_size
        rows = _check_integer("validation_batch_size", rows, minimum=1)
        evaluation = _Evaluation(model, validation, rows, epochs - initial_epoch)
    callback_list = _callback_list(callbacks, model, verbose, epochs, session.num_steps)
    return _train(session, evaluation, callback_list, initial_epoch, epochs)


def _train(
    session: "_Session",
    evaluation: "_Evaluation | None",
    callbacks: keras.callbacks.CallbackList,
    initial_epoch: int,
    epochs: int,
) -> keras.callbacks.History:
    model = session.model
    model.stop_training = False
    logs: Logs = {}
    callbacks.on_train_begin()
    # A callback such as BackupAndRestore may move the start.
    for epoch in range(model._initial_epoch or initial_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        logs = session.run_epoch(epoch, callbacks)
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
        self._step_s: float | None = None

    def prepare(self, *, num_epochs: int) -> None:
        _build(self.model, self._data)
        self._program = _program(self.model, self._batch_size, training=True, num_steps=num_epochs * self.num_steps)

    def run_epoch(self, epoch: int, callbacks: keras.callbacks.CallbackList) -> Logs:
        rows = None
        if self._shuffle:
            rows = tf.constant(epoch_order(num_rows(self._data), seed=self._seed, epoch=epoch))
        logs: Logs = {}
        first = 0
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

    _compiled = False

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


class _Evaluation:
    """The evaluation of one model on one data set, once or after every epoch."""

    def __init__(self, model: keras.Model, data: tuple[Tensors, ...], batch_size: int, num_evaluations: int) -> None:
        self.num_steps = math.ceil(num_rows(data) / batch_size)
        self._data = data
        _build(model, data)
        self._program = _program(model, batch_size, training=False, num_steps=num_evaluations * self.num_steps)

    def run(self, callbacks: keras.callbacks.CallbackList) -> Logs:
        callbacks.on_test_begin()
        callbacks.on_test_batch_begin(0)
        logs = self._program.run(self._data, None, 0, self.num_steps)
        callbacks.on_test_batch_end(self.num_steps - 1, logs)
        callbacks.on_test_end(logs)
        return logs


def current_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step, also of a schedule and under a distribution strategy."""
    return float(tf.convert_to_tensor(optimizer.learning_rate).numpy())


def evaluate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int | None = None,
    sample_weight: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None = None,
    verbose: int | str = 0,
    return_dict: bool = False,
) -> Any:
    """Returns the loss and the metrics of a compiled model, as `keras.Model.evaluate` does.

    Args:
        model: a compiled Keras 3 model.
        x: inputs, as for `fit`.
        y: targets, as for `fit`.
        batch_size: samples of a batch, 1 or more; 32 when None.
        sample_weight: weight of each sample.
        callbacks: Keras callbacks; their test hooks are called.
        verbose: 0 silent, 1 or "auto" a progress bar, 2 a line.
        return_dict: True returns {name: value}.

    Returns:
        The loss alone, a list [loss, metric, ...], or a dict, as Keras does.

    Raises:
        ConfigError: an argument is out of range, or the model is not compiled.
        DataError: the arrays do not fit together.
    """
    _check_compiled(model)
    batch_size = _check_integer("batch_size", 32 if batch_size is None else batch_size, minimum=1)
    evaluation = _Evaluation(model, as_dataset(x, y, sample_weight), batch_size, 1)
    logs = evaluation.run(_callback_list(callbacks, model, verbose, 1, evaluation.num_steps, add_history=False))
    return logs if return_dict else model._flatten_metrics_in_order(logs)


def predict(model: keras.Model, x: Any, *, batch_size: int | None = None) -> Any:
    """Returns the model's outputs for x, as `keras.Model.predict` does.

    Args:
        model: a Keras 3 model, compiled or not.
        x: inputs, as for `fit`.
        batch_size: samples of a batch, 1 or more; 1024 when None, for the result does not depend on it.

    Returns:
        NumPy array of shape (num_samples, ...), or a structure of them like the model's outputs.

    Raises:
        ConfigError: batch_size is out of range.
        DataError: x holds no arrays of equal length.
    """
    batch_size = _check_integer("batch_size", PREDICT_BATCH_SIZE if batch_size is None else batch_size, minimum=1)
    data = as_dataset(x)
    forward = _cached(model, ("predict",), lambda: tf.function(model.predict_step, reduce_retracing=True))
    parts = []
    for start in range(0, num_rows(data), batch_size):
        batch = keras.tree.map_structure(lambda t, start=start: t[start : start + batch_size], data)
        parts.append(keras.tree.map_structure(lambda t: t.numpy(), forward(batch)))
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)


def _build(model: keras.Model, data: tuple[Tensors, ...]) -> None:
    """Creates all variables of the model, its metrics and its optimizer, as `keras.Model.fit` does."""
    spec = keras.tree.map_structure(lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype.name), data)
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=spec)


def _program(model: keras.Model, batch_size: int, *, training: bool, num_steps: int) -> Program:
    """Returns the program of these arguments, the one of an earlier call where there is one."""
    compilation = choose_compilation(model, num_steps=num_steps)
    key = (training, batch_size, compilation.mode)
    program: Program = _cached(
        model, key, lambda: Program(model, batch_size, training=training, compilation=compilation)
    )
    return program


def _cached(model: keras.Model, key: tuple[Any, ...], create: Any) -> Any:
    """Keeps what was compiled for a model with the model, until it is compiled by Keras again."""
    # `compile` makes a new loss tracker every time, so it tells one compilation from the next. The dict is reached
    # through `vars`, for Keras would track an attribute as part of the model's state.
    tracker = getattr(model, "_loss_tracker", None)
    known_tracker, programs = vars(model).get("_annlib_programs", (None, None))
    if programs is None or known_tracker is not tracker:
        programs = {}
        vars(model)["_annlib_programs"] = (tracker, programs)
    if key not in programs:
        programs[key] = create()
    return programs[key]


def _callback_list(
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None,
    model: keras.Model,
    verbose: int | str,
    epochs: int,
    steps: int,
    *,
    add_history: bool = True,
) -> keras.callbacks.CallbackList:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    verbose = 1 if verbose == "auto" else verbose
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=add_history,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )


def _choose_seed(model: keras.Model, seed: int | None) -> int:
    if seed is not None:
        return _check_integer("seed", seed, minimum=0)
    # NumPy's global generator, because that is the one `keras.utils.set_random_seed` seeds.
    return 0 if is_distributed(model) else int(np.random.randint(2**31))  # noqa: NPY002


def _check_compiled(model: keras.Model) -> None:
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"the Keras backend is {keras.backend.backend()}: expected tensorflow. Set KERAS_BACKEND=tensorflow."
        )
    if not getattr(model, "compiled", False):
        raise ConfigError(f"{model.name} is not compiled: expected a loss and an optimizer. Call model.compile first.")


def _check_integer(name: str, value: Any, *, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ConfigError(f"{name} must be a whole number of {minimum} or more: received {value!r}. Correct it.")
    return int(value)


def _check_validation_data(validation_data: tuple[Any, ...]) -> tuple[Any, ...]:
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (2, 3):
        raise ConfigError(
            "validation_data must be (x, y) or (x, y, sample_weight): received "
            f"{type(validation_data).__name__}. Pass a tuple of two or three."
        )
    return tuple(validation_data)
