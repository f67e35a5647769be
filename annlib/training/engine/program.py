"""The compiled function: whole epochs of a model in one call, over arrays that stay on the device.

`keras.Model.fit` comes back to Python for every step. Here a step is the body of a `tf.while_loop`, and Python is met
once a chunk of steps; a small model's epoch is one call with its validation, and where nothing has to be done between
epochs, many epochs are one call. It is called with a range of steps, so that the caller chooses the chunks without
compiling again.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from annlib import compilation_cache
from annlib.errors import ConfigError
from annlib.training.engine.arrays import Tensors, num_rows
from annlib.training.engine.compilation import Compilation, choose_compilation, is_distributed
from annlib.training.engine.local import LocalStep
from annlib.training.engine.options import StepOptions
from annlib.training.engine.replicated import ReplicatedStep
from annlib.training.engine.steps import Step, run_steps

logger = logging.getLogger(__name__)

Logs = dict[str, Any]
Data = tuple[Tensors, ...]


class Run(Protocol):
    """Runs steps of the data that it was bound to."""

    def __call__(
        self, orders: tf.Tensor | None, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: bool
    ) -> list[tuple[Logs, Logs]]:
        """Runs the steps [first, last) of an epoch, or all steps of several.

        Args:
            orders: the order of the rows for each epoch, int32, shape (max_epochs, num_samples); None takes them as
                they are stored.
            first: first step, counted from 0; 0 for several epochs.
            last: step after the last one; the number of steps for several epochs.
            num_epochs: epochs to run, at most `max_epochs`.
            begins: True resets the metrics first.
            validates: True validates after each epoch.

        Returns:
            For each epoch its metrics over all steps since they were reset, and those of its validation: Python
            numbers, arrays for metrics that are not scalar.
        """


class TrainingProgram:
    """Trains epochs or parts of one, and validates.

    Args:
        model: a compiled Keras model, with all its variables built.
        batch_size: rows of a global batch, at least 1.
        validation_batch_size: rows of a global batch of the validation, at least 1.
        max_epochs: the most epochs of one call.
        compilation: how the function is compiled.
        options: of the training step.
    """

    def __init__(
        self,
        model: keras.Model,
        batch_size: int,
        validation_batch_size: int,
        *,
        max_epochs: int,
        compilation: Compilation,
        options: StepOptions,
    ) -> None:
        self.max_epochs = max_epochs
        self._batch_size = batch_size
        self._validation_batch_size = validation_batch_size
        self._step = _training_step(model, batch_size, options)
        self._test_step = _test_step(model, validation_batch_size)
        self._logs, self._validation_logs = _PackedLogs(), _PackedLogs()
        self._function = _Compiled(self._run_epochs, compilation)

    def bind(self, data: Data, validation: Data | None, *, shuffles: bool) -> "Run":
        """Returns what runs epochs over data.

        Args:
            data: what `as_dataset` returned.
            validation: the same of the validation split; None where there is none.
            shuffles: False takes the rows as they are stored.
        """
        self._step.prepare(data)
        if validation is not None:
            self._test_step.prepare(validation)
        orders = tf.TensorSpec([self.max_epochs, num_rows(data)], tf.int32) if shuffles else None
        function = self._function.for_types(data, validation, orders, tf.TensorSpec([5], tf.int32))

        def run(
            orders: tf.Tensor | None, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: bool
        ) -> list[tuple[Logs, Logs]]:
            # One tensor, for every argument costs time.
            what = tf.constant([num_epochs, first, last, begins, validates])
            rows = function(data, validation, orders, what).numpy()[:num_epochs]
            width = self._logs.width
            return [
                (self._logs.unpack(row[:width]), self._validation_logs.unpack(row[width:]) if validates else {})
                for row in rows
            ]

        return run

    def _run_epochs(
        self,
        data: Data,
        validation: Data | None,
        orders: tf.Tensor | None,
        what: tf.Tensor,
    ) -> tf.Tensor:
        num_epochs, first, last, begins, validates = tf.unstack(what)
        begins, validates = begins > 0, validates > 0

        def run(epoch: tf.Tensor | int, begins: tf.Tensor) -> tf.Tensor:
            rows = None if orders is None else orders[epoch]
            tf.cond(begins, lambda: _reset(self._step), lambda: False)
            run_steps(self._step, data, rows, self._batch_size, first, last)
            logs = self._logs.pack(self._step.results())
            if validation is None:
                return logs
            return tf.concat([logs, self._validate(validation, validates)], axis=0)

        if self.max_epochs == 1:
            return run(0, begins)[tf.newaxis]

        def run_one_of_several(epoch: tf.Tensor, table: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return epoch + 1, table.write(epoch, run(epoch, begins | (epoch > 0)))

        table = tf.TensorArray(tf.float64, size=self.max_epochs)
        start = (tf.constant(0), table)
        _, table = tf.while_loop(lambda epoch, _: epoch < num_epochs, run_one_of_several, start, parallel_iterations=1)
        return table.stack()

    def _validate(self, validation: Data, validates: tf.Tensor) -> tf.Tensor:
        def validate() -> tf.Tensor:
            self._test_step.reset()
            return _run_all(self._test_step, validation, self._validation_batch_size, self._validation_logs)

        # The first branch is traced first, and tells how many values there are.
        return tf.cond(validates, validate, lambda: tf.zeros([self._validation_logs.width], tf.float64))


class EvaluationProgram:
    """Evaluates; the arguments are those of `TrainingProgram`."""

    def __init__(self, model: keras.Model, batch_size: int, *, compilation: Compilation) -> None:
        self._batch_size = batch_size
        self._step = _test_step(model, batch_size)
        self._logs = _PackedLogs()
        self._function = _Compiled(self._evaluate, compilation)

    def bind(self, data: Data) -> Callable[..., Logs]:
        """Returns what evaluates data.

        It takes `begins`, True to reset the metrics first, and returns the metrics over all rows since they were reset:
        Python numbers, arrays for metrics that are not scalar.
        """
        self._step.prepare(data)
        function = self._function.for_types(data, tf.TensorSpec([], tf.bool))
        return lambda *, begins: self._logs.unpack(function(data, tf.constant(begins)).numpy())

    def _evaluate(self, data: Data, begins: tf.Tensor) -> tf.Tensor:
        tf.cond(begins, lambda: _reset(self._step), lambda: False)
        return _run_all(self._step, data, self._batch_size, self._logs)


def _run_all(step: Step, data: Data, batch_size: int, logs: "_PackedLogs") -> tf.Tensor:
    run_steps(step, data, None, batch_size)
    return logs.pack(step.results())


class _Compiled:
    """A function as XLA or a plain graph runs it, or Python."""

    def __init__(self, function: Callable[..., tf.Tensor], compilation: Compilation) -> None:
        self._plain: Any = function if compilation.mode == "eager" else tf.function(function, autograph=False)
        is_xla = compilation.mode == "xla"
        self._compiled = tf.function(function, jit_compile=True, autograph=False) if is_xla else self._plain

    def for_types(self, *arguments: Any) -> Callable[..., tf.Tensor]:
        """Returns the function for arguments of these types, which are tensors or specifications of tensors.

        TensorFlow would look it up on every call, which takes longer than a hundred steps of a small model.
        """
        function = self._compiled
        if hasattr(function, "get_concrete_function"):
            function = function.get_concrete_function(*arguments)

        has_run = False

        def call(*values: Any) -> tf.Tensor:
            nonlocal function, has_run
            try:
                result = function(*values)
            except tf.errors.OpError as error:
                if has_run or self._compiled is self._plain:
                    raise
                # XLA compiles before any step runs, and writes the variables after the last one, so that starting over
                # as a plain graph is safe. What is wrong may also be a file of compiled functions.
                reason = str(error).splitlines()[0]
                logger.warning("XLA does not run this model, the plain graph takes over: %s", reason)
                compilation_cache.clear()
                self._compiled = self._plain
                function = self._plain.get_concrete_function(*arguments)
                result = function(*values)
            has_run = True
            return result

        return call


class _PackedLogs:
    """Metrics of any shape in one vector of float64, which holds all their types exactly: one value to read, not many.

    `width` is the length of the vector, known once it was traced.
    """

    def __init__(self) -> None:
        self.width = 0
        self._layout: dict[str, tuple[tuple[int, ...], Any]] = {}

    def pack(self, metrics: Mapping[str, Any]) -> tf.Tensor:
        """Returns the vector.

        Raises:
            ConfigError: a metric's shape is not known before it runs.
        """
        tensors = {name: tf.convert_to_tensor(value) for name, value in metrics.items()}
        for name, tensor in tensors.items():
            if not tensor.shape.is_fully_defined():
                raise ConfigError(
                    f"metric {name} has the shape {tensor.shape}: expected one that is known before it is computed, "
                    "such as (num_classes,). Give its result a fixed shape, for example with tf.ensure_shape."
                )
        self._layout = {name: (tuple(t.shape), t.dtype.as_numpy_dtype) for name, t in tensors.items()}
        self.width = sum(math.prod(shape) for shape, _ in self._layout.values())
        flat = [tf.reshape(tf.cast(tensor, tf.float64), [-1]) for tensor in tensors.values()]
        return tf.concat(flat, axis=0) if flat else tf.zeros([0], tf.float64)

    def unpack(self, vector: np.ndarray[Any, Any]) -> Logs:
        """Returns the metrics: Python numbers, arrays where they are not scalar."""
        logs: Logs = {}
        start = 0
        for name, (shape, dtype) in self._layout.items():
            end = start + math.prod(shape)
            logs[name] = vector[start:end].astype(dtype).reshape(shape) if shape else vector[start].astype(dtype).item()
            start = end
        return logs


def _training_step(model: keras.Model, batch_size: int, options: StepOptions) -> Step:
    # One process is one replica, which can accumulate gradients as well.
    if is_distributed(model) or options.gradient_accumulation > 1:
        return ReplicatedStep(model, training=True, batch_size=batch_size, options=options)
    return LocalStep(model, training=True)


def _test_step(model: keras.Model, batch_size: int) -> Step:
    if is_distributed(model):
        return ReplicatedStep(model, training=False, batch_size=batch_size)
    return LocalStep(model, training=False)


def _reset(step: Step) -> bool:
    step.reset()
    return True


def build(model: keras.Model, data: Data) -> None:
    """Creates all variables of the model, its metrics and its optimizer, as `keras.Model.fit` does."""
    spec = keras.tree.map_structure(lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype.name), data)
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=spec)


def training_program(
    model: keras.Model,
    batch_size: int,
    validation_batch_size: int,
    *,
    max_epochs: int,
    num_steps: int,
    options: StepOptions,
) -> TrainingProgram:
    """Returns the program of these arguments, the one of an earlier call where there is one."""
    compilation = choose_compilation(model, num_steps=num_steps)
    key = ("train", batch_size, validation_batch_size, max_epochs, compilation.mode, options)
    program: TrainingProgram = cached(
        model,
        key,
        lambda: TrainingProgram(
            model,
            batch_size,
            validation_batch_size,
            max_epochs=max_epochs,
            compilation=compilation,
            options=options,
        ),
    )
    return program


def evaluation_program(model: keras.Model, batch_size: int, *, num_steps: int) -> EvaluationProgram:
    """Returns the program of these arguments, the one of an earlier call where there is one."""
    compilation = choose_compilation(model, num_steps=num_steps)
    key = ("evaluate", batch_size, compilation.mode)
    program: EvaluationProgram = cached(
        model, key, lambda: EvaluationProgram(model, batch_size, compilation=compilation)
    )
    return program


def cached(model: keras.Model, key: tuple[Any, ...], create: Any) -> Any:
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
