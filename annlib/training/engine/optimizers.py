"""What Keras' optimizers have inside: one optimizer, one whose loss is scaled, or one for each part of the model."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf


def inner_optimizers(optimizer: keras.optimizers.Optimizer | None) -> list[keras.optimizers.Optimizer]:
    """Returns the optimizers that update the weights: those of a MultiOptimizer, that of one which scales the loss."""
    if optimizer is None:
        return []
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(inner, "optimizers", None) or [inner])


def current_learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """Returns the learning rate of the next step, also of a schedule; of several optimizers, that of the first."""
    return float(tf.convert_to_tensor(inner_optimizers(optimizer)[0].learning_rate).numpy())


@contextlib.contextmanager
def gradients_already_reduced(optimizer: keras.optimizers.Optimizer | None) -> Iterator[None]:
    """Keeps a Keras optimizer, which reduces gradients in a replica context by itself, from doing it again."""
    optimizers = inner_optimizers(optimizer)
    for each in optimizers:
        each._all_reduce_sum_gradients = list
    try:
        yield
    finally:
        for each in optimizers:
            del each._all_reduce_sum_gradients
