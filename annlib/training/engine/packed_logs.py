"""The metrics of a step, as one value that comes out of the compiled function."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from annlib.errors import ConfigError

Logs = dict[str, Any]


def flat(metrics: Mapping[str, Any]) -> Logs:
    """Puts the values of a metric that has several in the place of its own, as Keras does."""
    logs: Logs = {}
    for name, value in metrics.items():
        logs |= flat(value) if isinstance(value, Mapping) else {name: value}
    return logs


class PackedLogs:
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
        tensors = {name: tf.convert_to_tensor(value) for name, value in flat(metrics).items()}
        for name, tensor in tensors.items():
            if not tensor.shape.is_fully_defined():
                raise ConfigError(
                    f"metric {name} has the shape {tensor.shape}: expected one that is known before it is computed, "
                    "such as (num_classes,). Give its result a fixed shape, for example with tf.ensure_shape."
                )
        self._layout = {name: (tuple(t.shape), t.dtype.as_numpy_dtype) for name, t in tensors.items()}
        self.width = sum(math.prod(shape) for shape, _ in self._layout.values())
        parts = [tf.reshape(tf.cast(tensor, tf.float64), [-1]) for tensor in tensors.values()]
        return tf.concat(parts, axis=0) if parts else tf.zeros([0], tf.float64)

    def unpack(self, vector: np.ndarray[Any, Any]) -> Logs:
        """Returns the metrics: Python numbers, arrays where they are not scalar."""
        logs: Logs = {}
        start = 0
        for name, (shape, dtype) in self._layout.items():
            end = start + math.prod(shape)
            logs[name] = vector[start:end].astype(dtype).reshape(shape) if shape else vector[start].astype(dtype).item()
            start = end
        return logs
