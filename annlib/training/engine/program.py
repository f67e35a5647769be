"""The compiled function: whole epochs of a model in one call, over arrays that stay on the device.

`keras.Model.fit` comes back to Python for every step. Here a step is the body of a `tf.while_loop`, and Python is met
once a chunk of steps; a small model's epoch is one call with its validation, and where nothing has to be done between
epochs, many epochs are one call. It is called with a range of steps, so that the caller chooses the chunks without
compiling again.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
import tensorflow as tf

from annlib.training.engine import delayed, small_loops
from annlib.training.engine.arrays import Tensors, as_keras, map_tensors, num_rows, types_of_rows
from annlib.training.engine.compilation import (
    Compilation,
    Compiled,
    Recent,
    choose_compilation,
    is_distributed,
    overrides,
)
from annlib.training.engine.local import LocalStep, trace_step
from annlib.training.engine.options import StepOptions
from annlib.training.engine.packed_logs import Logs, PackedLogs
from annlib.training.engine.replicated import ReplicatedStep
from annlib.training.engine.steps import Step, run_any_number, run_steps
from annlib.training.engine.trainable import as_first_trained

Data = tuple[Tensors, ...]
# Steps of a validation: the first one and the one after the last.
Steps = tuple[int, int]
NO_STEPS: Steps = (0, 0)
# Programs that one model keeps, for as many batch sizes and kinds of calls.
PROGRAMS_KEPT = 8


class Run(Protocol):
    """Runs steps of the data that it was bound to."""

    def __call__(
        self, orders: tf.Tensor | None, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: Steps
    ) -> list[tuple[Logs, Logs]]:
        """Runs the steps [first, last) of an epoch, which may be none, or all steps of several.

        Args:
            orders: the order of the rows for each epoch, int32, shape (max_epochs, num_samples); None takes them as
                they are stored.
            first: first step, counted from 0; 0 for several epochs.
            last: step after the last one; the number of steps for several epochs.
            num_epochs: epochs to run, at most `max_epochs`.
            begins: True resets the metrics first.
            validates: steps of the validation after each epoch; the first one of all resets the metrics.

        Returns:
            For each epoch its metrics over all steps since they were reset, and those of its validation so far: Python
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
        self.steps_at_once = compilation.steps_at_once
        self._model = model
        self._batch_size = batch_size
        self._validation_batch_size = validation_batch_size
        with as_first_trained(model):
            self._step = _training_step(model, batch_size, options)
            self._test_step = _test_step(model, validation_batch_size)
            self._delayed = (
                delayed.Delayed(model, batch_size=batch_size, num_steps=compilation.steps_at_once)
                if compilation.steps_at_once > 1
                else None
            )
        self._logs, self._validation_logs = PackedLogs(), PackedLogs()
        self._function = Compiled(self._run_epochs, compilation)

    def bind(self, data: Data, validation: Data | None, *, shuffles: bool) -> "Run":
        """Returns what runs epochs over data.

        Args:
            data: what `as_dataset` returned.
            validation: the same of the validation split; None where there is none.
            shuffles: False takes the rows as they are stored.
        """
        orders = tf.TensorSpec([self.max_epochs, num_rows(data)], tf.int32) if shuffles else None
        with as_first_trained(self._model):
            self._step.prepare(data)
            if validation is not None:
                self._test_step.prepare(validation)
            function = self._function.for_types(data, validation, orders, tf.TensorSpec([6], tf.int32))

        def run(
            orders: tf.Tensor | None, first: int, last: int, *, num_epochs: int = 1, begins: bool, validates: Steps
        ) -> list[tuple[Logs, Logs]]:
            # One tensor, for every argument costs time.
            what = tf.constant([num_epochs, first, last, begins, *validates])
            rows = function(data, validation, orders, what).numpy()[:num_epochs]
            width = self._logs.width
            return [
                (
                    self._logs.unpack(row[:width]),
                    {} if validates == NO_STEPS else self._validation_logs.unpack(row[width:]),
                )
                for row in rows
            ]

        return run

    def knows_all_state(self, variables: Sequence[keras.Variable]) -> bool:
        """Tells whether these are all variables of the steps that were bound last."""
        known = {id(variable.value.handle) for variable in variables}
        return all(id(handle) in known for handle in self._function.variables)

    def _run_epochs(
        self,
        data: Data,
        validation: Data | None,
        orders: tf.Tensor | None,
        what: tf.Tensor,
    ) -> tf.Tensor:
        num_epochs, first, last, begins, *validates = tf.unstack(what)
        begins = begins > 0

        def run(epoch: tf.Tensor | int, begins: tf.Tensor) -> tf.Tensor:
            rows = None if orders is None else orders[epoch]
            tf.cond(begins, lambda: _reset(self._step), lambda: False)
            run_steps(
                self._step,
                data,
                rows,
                batch_size=self._batch_size,
                first=first,
                last=last,
                delayed=self._delayed,
            )
            logs = self._logs.pack(self._step.results())
            if validation is None:
                return logs
            return tf.concat([logs, self._validate(validation, *validates)], axis=0)

        if self.max_epochs == 1:
            return run(0, begins)[tf.newaxis]

        def run_one_of_several(epoch: tf.Tensor, table: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return epoch + 1, table.write(epoch, run(epoch, begins | (epoch > 0)))

        table = tf.TensorArray(tf.float64, size=self.max_epochs)

        def goes_on(epoch: tf.Tensor, _: tf.TensorArray) -> tf.Tensor:
            return small_loops.goes_on(epoch, num_epochs)

        start = (tf.constant(0), table)
        _, table = tf.while_loop(goes_on, run_one_of_several, start, parallel_iterations=1)
        return table.stack()

    def _validate(self, validation: Data, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
        def validate() -> tf.Tensor:
            tf.cond(first == 0, lambda: _reset(self._test_step), lambda: False)
            run_steps(self._test_step, validation, batch_size=self._validation_batch_size, first=first, last=last)
            return self._validation_logs.pack(self._test_step.results())

        # The first branch is traced first, and tells how many values there are.
        return tf.cond(last > first, validate, lambda: tf.zeros([self._validation_logs.width], tf.float64))


class EvaluationProgram:
    """Evaluates; the arguments are those of `TrainingProgram`."""

    def __init__(self, model: keras.Model, batch_size: int, *, compilation: Compilation) -> None:
        self._batch_size = batch_size
        self._step = _test_step(model, batch_size)
        self._logs = PackedLogs()
        self._function = Compiled(self._evaluate, compilation)
        # Tracing takes longer than evaluating a small data set. XLA needs to know the number of rows, as do shards, and
        # Keras where it averages the losses of several outputs.
        losses = [] if model._compile_loss is None else model._compile_loss._flat_losses
        self._takes_any_number = compilation.mode == "graph" and not is_distributed(model) and len(losses) < 2

    def bind(self, data: Data) -> Callable[..., Logs]:
        """Returns what evaluates data.

        It takes the first step and the step after the last one, and `begins`, True to reset the metrics first, and
        returns the metrics over all rows since they were reset: Python numbers, arrays for metrics that are not scalar.
        """
        self._step.prepare(data)
        types = types_of_rows(data) if self._takes_any_number else data
        function = self._function.for_types(types, tf.TensorSpec([3], tf.int32))

        def evaluate(first: int, last: int, *, begins: bool) -> Logs:
            return self._logs.unpack(function(data, tf.constant([first, last, begins])).numpy())

        return evaluate

    def _evaluate(self, data: Data, what: tf.Tensor) -> tf.Tensor:
        first, last, begins = tf.unstack(what)
        tf.cond(begins > 0, lambda: _reset(self._step), lambda: False)
        run = run_any_number if self._takes_any_number else run_steps
        run(self._step, data, batch_size=self._batch_size, first=first, last=last)
        return self._logs.pack(self._step.results())


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


def build(model: keras.Model, data: Data, *, training: bool = True) -> None:
    """Creates all variables of the model, its metrics and its optimizer, as `keras.Model.fit` does.

    Args:
        model: a compiled Keras model.
        data: samples as `as_dataset` returns them.
        training: False where the model is evaluated alone.
    """
    name = "train_step" if training else "test_step"
    # A step of the model's own, such as that of a GAN, which has no `call`.
    can_trace = overrides(model, keras.Model, name) and not is_distributed(model)
    if can_trace and not overrides(model, keras.Model, "call"):
        # Eagerly, its first batch creates what it needs.
        if not model.run_eagerly:
            trace_step(getattr(model, name), data)
        return
    spec = map_tensors(lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype.name), data)
    with model.distribute_strategy.scope():
        try:
            model._symbolic_build(data_batch=spec)
        except RuntimeError:
            if model.run_eagerly:
                _build_eagerly(model, data)
            elif can_trace:
                trace_step(getattr(model, name), data)
            else:
                raise


def _build_eagerly(model: keras.Model, data: Data) -> None:
    """Builds a model whose `call` needs values by one batch, which leaves no trace but the variables."""
    model.test_step(as_keras(map_tensors(lambda t: t[:1], data)))
    model.reset_metrics()
    if model.optimizer is not None:
        model.optimizer.build(model.trainable_variables)


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
    compilation = choose_compilation(model, batch_size=batch_size, num_steps=num_steps)
    if compilation.loops == "calls" and options.gradient_accumulation == 1:
        with as_first_trained(model):
            at_once = delayed.steps_at_once(model, batch_size, num_steps)
        compilation = dataclasses.replace(compilation, steps_at_once=at_once)
    kind = dataclasses.replace(compilation, reason="")
    key = ("train", batch_size, validation_batch_size, max_epochs, kind, options)
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
    compilation = choose_compilation(model, batch_size=batch_size, num_steps=num_steps)
    key = ("evaluate", batch_size, compilation.mode, compilation.loops)
    program: EvaluationProgram = cached(
        model, key, lambda: EvaluationProgram(model, batch_size, compilation=compilation)
    )
    return program


def cached(model: keras.Model, key: tuple[Any, ...], create: Any) -> Any:
    """Keeps what was compiled for a model with the model, until it is compiled by Keras again."""
    # `compile` makes a new loss tracker every time, so it tells one compilation from the next. The pair is reached
    # through `vars`, for Keras would track an attribute as part of the model's state.
    tracker = getattr(model, "_loss_tracker", None)
    known_tracker, programs = vars(model).get("_annlib_programs", (None, None))
    if programs is None or known_tracker is not tracker:
        programs = Recent(PROGRAMS_KEPT)
        vars(model)["_annlib_programs"] = (tracker, programs)
    return programs.get(key, create)
