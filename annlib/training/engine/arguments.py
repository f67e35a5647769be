"""Checks of arguments, and Keras' list of callbacks made from them."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from annlib.errors import ConfigError


def check_compiled(model: keras.Model) -> None:
    """Raises ConfigError where the model cannot be trained or evaluated."""
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"the Keras backend is {keras.backend.backend()}: expected tensorflow. Set KERAS_BACKEND=tensorflow."
        )
    if not getattr(model, "compiled", False):
        raise ConfigError(f"{model.name} is not compiled: expected a loss and an optimizer. Call model.compile first.")


def check_integer(name: str, value: Any, *, minimum: int) -> int:
    """Returns the value as an int; raises ConfigError where it is no whole number of `minimum` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ConfigError(f"{name} must be a whole number of {minimum} or more: received {value!r}. Correct it.")
    return int(value)


def callback_list(
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.CallbackList | None,
    model: keras.Model,
    verbose: int | str,
    epochs: int,
    steps: int,
    *,
    add_history: bool = True,
) -> keras.callbacks.CallbackList:
    """Returns the callbacks with the history and the progress bar that Keras adds; a list of Keras stays as it is."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    verbose = 1 if verbose == "auto" else verbose
    return keras.callbacks.CallbackList(
        callbacks,
        add_history=add_history,
        add_progbar=verbose != 0,
        model=model,
        verbose=verbose,
        epochs=epochs,
        steps=steps,
    )
