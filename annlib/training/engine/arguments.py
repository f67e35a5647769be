"""Checks of arguments, and Keras' list of callbacks made from them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from annlib.errors import ConfigError, DataError
from annlib.training.engine.compilation import is_distributed, overrides

# Keras' callbacks that write files, which one worker of several does.
_WRITERS = (keras.callbacks.ModelCheckpoint, keras.callbacks.TensorBoard, keras.callbacks.CSVLogger)


def check_compiled(model: keras.Model) -> None:
    """Raises ConfigError where the model cannot be trained or evaluated."""
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"the Keras backend is {keras.backend.backend()}: expected tensorflow. Set KERAS_BACKEND=tensorflow."
        )
    if not isinstance(model, keras.Model):
        raise ConfigError(
            f"model is a {type(model).__name__}: expected a keras.Model. Pass the model itself, not what makes it."
        )
    if not model.compiled:
        raise ConfigError(f"{model.name} is not compiled: expected a loss and an optimizer. Call model.compile first.")


def check_no_step_limit() -> None:
    """Raises ConfigError where Keras is told to cut epochs short, which a whole epoch in one call does not know."""
    limit = keras.config.max_steps_per_epoch()
    if limit:
        raise ConfigError(
            f"keras.config.max_steps_per_epoch is {limit}: expected none, for annlib runs all steps of an epoch. Call "
            "keras.config.set_max_steps_per_epoch(None), and pass fewer rows."
        )


def check_targets(model: keras.Model, data: tuple[Any, ...]) -> None:
    """Raises DataError where Keras' own step computes a loss of targets, and there are none."""
    if len(data) > 1 or model._compile_loss is None:
        return
    if not overrides(model, keras.Model, "train_step", "test_step", "compute_loss"):
        raise DataError(
            f"y is missing: expected targets for the loss of {model.name}, received x alone. Pass y, or compile the "
            "model without a loss where its layers add one."
        )


def check_integer(name: str, value: Any, *, minimum: int) -> int:
    """Returns the value as an int; raises ConfigError where it is no whole number of `minimum` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ConfigError(f"{name} must be a whole number of {minimum} or more: received {value!r}. Correct it.")
    return int(value)


def callback_list(
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None,
    model: keras.Model,
    verbose: int | str,
    epochs: int,
    steps: int,
    *,
    add_history: bool = True,
) -> keras.callbacks.CallbackList:
    """Returns the callbacks with the history and the progress bar that Keras adds; a list of Keras stays as it is.

    Of several workers only the first keeps the progress bar and the callbacks that write files.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    if isinstance(callbacks, keras.callbacks.Callback):
        callbacks = [callbacks]
    callbacks = list(callbacks or [])
    if is_distributed(model):
        _refuse_backup(callbacks)
        if not model.distribute_strategy.extended.should_checkpoint:
            callbacks = [callback for callback in callbacks if not isinstance(callback, _WRITERS)]
            verbose = 0
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=add_history,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )


def _refuse_backup(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    # Each worker would restore its own file, and workers in different epochs wait for each other for good.
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        raise ConfigError(
            "BackupAndRestore does not work under a distribution strategy: expected another callback, received it. "
            "Remove it; a run of jobs/train.py that is started again with the same --name goes on by itself."
        )
