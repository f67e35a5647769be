"""The compiled loop: many steps of a model inside one function, over arrays that stay on the device.

`keras.Model.fit` comes back to Python for every step. Here a step is the body of a `tf.while_loop`, and Python is met
once a chunk of steps; a small model's epoch is one chunk. A program exists for one model, one batch size, and training
or evaluation. It is called with a range of steps, so that the caller chooses the chunks without compiling again.
"""

import logging
from typing import Any

import keras
import tensorflow as tf

from annlib.training.engine.arrays import Tensors, num_rows
from annlib.training.engine.compilation import Compilation, choose_compilation, is_distributed
from annlib.training.engine.local import LocalStep
from annlib.training.engine.replicated import ReplicatedStep

logger = logging.getLogger(__name__)

Logs = dict[str, Any]


class Program:
    """Runs ranges of steps of one model.

    Args:
        model: a compiled Keras model, with all its variables built.
        batch_size: rows of a global batch, at least 1.
        training: True runs training steps, False only updates the metrics.
        compilation: how the loop is compiled.
    """

    def __init__(self, model: keras.Model, batch_size: int, *, training: bool, compilation: Compilation) -> None:
        self._batch_size = batch_size
        step_class = ReplicatedStep if is_distributed(model) else LocalStep
        self._step = step_class(model, training=training)
        self._plain = self._run_steps if compilation.mode == "eager" else tf.function(self._run_steps, autograph=False)
        xla = compilation.mode == "xla"
        self._compiled = tf.function(self._run_steps, jit_compile=True, autograph=False) if xla else self._plain

    def run(self, data: tuple[Tensors, ...], rows: tf.Tensor | None, first: int, last: int) -> Logs:
        """Runs the steps [first, last) of an epoch; step 0 resets the metrics.

        Args:
            data: what `as_dataset` returned.
            rows: the order of the rows, int32, shape (num_samples,); None takes them as they are stored.
            first: first step, counted from 0.
            last: step after the last one.

        Returns:
            The metrics over all steps since step 0, as Python numbers (arrays for metrics that are not scalar).
        """
        self._step.prepare(data)
        arguments = (data, rows, tf.constant(first), tf.constant(last))
        try:
            logs = self._compiled(*arguments)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if self._compiled is self._plain:
                raise
            # XLA refuses while compiling, before any step has run, so that starting over as a plain graph is safe.
            logger.warning("XLA cannot compile this model, the plain graph takes over: %s", str(error).splitlines()[0])
            self._compiled = self._plain
            logs = self._compiled(*arguments)
        return {name: _to_python(value) for name, value in logs.items()}

    def _run_steps(
        self, data: tuple[Tensors, ...], rows: tf.Tensor | None, first: tf.Tensor, last: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """Runs full batches in a loop, then the smaller last one if the range reaches it.

        The last batch is traced with its own size: it counts exactly, whatever the loss, the metrics and the
        normalisation layers do with the number of rows.
        """
        batch_size = self._batch_size
        num_full, tail = divmod(num_rows(data), batch_size)

        def run_full_batch(step: tf.Tensor) -> tuple[tf.Tensor]:
            self._step.run(data, rows, step * batch_size, batch_size)
            return (step + 1,)

        def run_tail() -> tf.Tensor:
            self._step.run(data, rows, tf.constant(num_full * batch_size), tail)
            return last

        def reset() -> tf.Tensor:
            self._step.reset()
            return first

        tf.cond(first == 0, reset, lambda: first)
        if num_full:
            tf.while_loop(
                lambda step: step < tf.minimum(last, num_full), run_full_batch, [first], parallel_iterations=1
            )
        if tail:
            tf.cond(last > num_full, run_tail, lambda: last)
        return self._step.results()


def _to_python(value: Any) -> Any:
    array = value.numpy() if hasattr(value, "numpy") else value
    return array.item() if getattr(array, "ndim", None) == 0 else array


def build(model: keras.Model, data: tuple[Tensors, ...]) -> None:
    """Creates all variables of the model, its metrics and its optimizer, as `keras.Model.fit` does."""
    spec = keras.tree.map_structure(lambda t: keras.KerasTensor((None, *t.shape[1:]), t.dtype.name), data)
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=spec)


def program_for(model: keras.Model, batch_size: int, *, training: bool, num_steps: int) -> Program:
    """Returns the program of these arguments, the one of an earlier call where there is one."""
    compilation = choose_compilation(model, num_steps=num_steps)
    key = (training, batch_size, compilation.mode)
    program: Program = cached(
        model, key, lambda: Program(model, batch_size, training=training, compilation=compilation)
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
