"""How layers multiply matrices while a training step is traced."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from keras.src.backend.tensorflow import numpy as keras_numpy

Multiply = Callable[[Any, Any], Any]


@contextlib.contextmanager
def multiplying(multiply: Callable[[Multiply, Any, Any], Any]) -> Iterator[None]:
    """Lets layers multiply by a function meanwhile.

    Args:
        multiply: gets what layers multiply by otherwise, and what `keras.ops.matmul` is called with: variables of Keras
            or tensors.
    """
    matmul = keras_numpy.matmul
    keras_numpy.matmul = functools.partial(multiply, matmul)
    try:
        yield
    finally:
        keras_numpy.matmul = matmul
