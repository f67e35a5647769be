"""The optimizers of A. Géron, Hands-On Machine Learning, chapters 10 and 11, by the names of the configuration."""

from typing import Any

import keras

# The book's value for both kinds of momentum.
MOMENTUM = 0.9


def make_optimizer(name: str, learning_rate: Any) -> keras.optimizers.Optimizer:
    """Returns a new optimizer.

    Args:
        name: one of `annlib.config.OPTIMIZERS`; "momentum" and "nesterov" are SGD with a momentum of 0.9.
        learning_rate: a float, or a `keras.optimizers.schedules.LearningRateSchedule`.
    """
    if name in ("momentum", "nesterov"):
        return keras.optimizers.SGD(learning_rate, momentum=MOMENTUM, nesterov=name == "nesterov")
    optimizer = keras.optimizers.get(name)
    # A new one of the same class: Keras' `get` takes no arguments.
    return type(optimizer)(learning_rate=learning_rate)
