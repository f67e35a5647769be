"""Learning rates that fall while a run goes on."""

import math
from typing import Any

import keras

from annlib.config import RunConfig

EXPONENTIAL_END = 0.01


def learning_rate(config: RunConfig, num_samples: int) -> Any:
    """Returns what an optimizer takes as its learning rate.

    Args:
        config: the rate, the schedule, the epochs and the global batch size.
        num_samples: rows of the training split.

    Returns:
        A float, or a `keras.optimizers.schedules.LearningRateSchedule` over all steps of the run.
    """
    num_steps = config.epochs * math.ceil(num_samples / config.global_batch_size)
    if config.learning_rate_schedule == "exponential":
        return keras.optimizers.schedules.ExponentialDecay(config.learning_rate, num_steps, EXPONENTIAL_END)
    if config.learning_rate_schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(config.learning_rate, num_steps)
    return config.learning_rate
