"""One step of a model on one device: Keras' own `train_step` and `test_step`, kept inside the compiled loop."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.training.engine import small_loops
from annlib.training.engine.arrays import Tensors, as_keras, map_tensors, types_of_rows
from annlib.training.engine.compilation import has_gpu, overrides
from annlib.training.engine.optimizers import gradients_already_reduced
from annlib.training.engine.packed_logs import flat

# What TensorFlow's kernels take rows of on a GPU. All data of another type, such as uint8, would travel to the CPU for
# every batch; XLA takes rows of any type where they are.
_TYPES_OF_GPU_KERNELS = (tf.bool, tf.float16, tf.bfloat16, tf.float32, tf.float64, tf.int32, tf.int64)


class LocalStep:
    """Runs a batch through the model's own step method, so that a method the user wrote is used as it is.

    Args:
        model: a compiled Keras model, with all its variables built.
        training: True runs `train_step`, False runs `test_step`.
    """

    def __init__(self, model: keras.Model, *, training: bool) -> None:
        self._model = model
        name = "train_step" if training else "test_step"
        self._step = getattr(model, name)
        self._is_overridden = overrides(model, keras.Model, name, "compute_metrics")
        self._last_logs: dict[str, tf.Variable] | None = None
        self._eager_logs: dict[str, Any] | None = None

    def prepare(self, data: tuple[Tensors, ...]) -> None:
        """Makes room for what a user's own step returns, which need not be the model's metrics."""
        if not self._is_overridden or self._last_logs is not None or self._model.run_eagerly:
            return
        logs = flat(trace_step(self._step, data).structured_outputs)
        self._last_logs = {name: tf.Variable(tf.zeros(t.shape, t.dtype)) for name, t in logs.items()}

    def reset(self) -> None:
        """Sets the metrics back to the state they have at the start of an epoch."""
        self._model.reset_metrics()

    def run(self, data: tuple[Tensors, ...], rows: tf.Tensor | None, start: tf.Tensor, size: int | tf.Tensor) -> None:
        """Runs the batch of `size` rows that starts at `start` of the order `rows`."""
        batch = as_keras(take_rows(data, rows, start, size))
        # There are no other replicas; TensorFlow would keep the graph of every sum over one for good.
        with gradients_already_reduced(self._model.optimizer), small_loops.products():
            logs = self._step(batch)
        if self._is_overridden and self._model.run_eagerly:
            # Arrays, for a number of Python has more digits than TensorFlow takes of it.
            self._eager_logs = {name: np.asarray(value) for name, value in flat(logs).items()}
        elif self._last_logs is not None:
            for name, value in flat(logs).items():
                self._last_logs[name].assign(value)

    def results(self) -> dict[str, Any]:
        """Returns the metrics' values, or what a user's own step returned last where that is something else."""
        metrics: dict[str, Any] = self._model.get_metrics_result()
        last_logs = self._eager_logs or self._last_logs
        if last_logs is None or set(last_logs) == set(metrics):
            return metrics
        return {name: tf.convert_to_tensor(value) for name, value in last_logs.items()}


def trace_step(step: Callable[[Any], Any], data: tuple[Tensors, ...]) -> Any:
    """Returns the concrete function of a model's step; variables that it creates are there after it."""
    return tf.function(step, autograph=False).get_concrete_function(as_keras(types_of_rows(data)))


def take_rows(
    data: tuple[Tensors, ...], rows: tf.Tensor | None, start: tf.Tensor, size: int | tf.Tensor
) -> tuple[Tensors, ...]:
    """Returns the batch of `size` rows from `start` on, in the order `rows` (int32), or as they are stored."""
    known_size = size if isinstance(size, int) else None
    if rows is None:

        def take(tensor: tf.Tensor) -> tf.Tensor:
            others = tensor.shape[1:]
            batch = tf.slice(tensor, [start] + [0] * len(others), [size, *others])
            return tf.ensure_shape(batch, [known_size, *others])

    else:
        batch = tf.ensure_shape(tf.slice(rows, [start], [size]), [known_size])

        def take(tensor: tf.Tensor) -> tf.Tensor:
            return tf.gather(tensor, batch)

    def take_on_device(tensor: tf.Tensor) -> tf.Tensor:
        if tensor.dtype in _TYPES_OF_GPU_KERNELS or not has_gpu():
            return take(tensor)
        return tf.function(take, jit_compile=True, autograph=False)(tensor)

    return tuple(map_tensors(take_on_device, part) for part in data)
