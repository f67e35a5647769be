"""The state of Keras callbacks, so that patience and best values survive a resume.

Keras' callbacks have no way to save their state. What changes while they work is in their public attributes: counters
(`wait`), best values (`best`), and weights (`best_weights`). Arguments of the constructor are not state.
"""

import collections
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

logger = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray[Any, Any]]


def collect(callbacks: Sequence[keras.callbacks.Callback]) -> tuple[dict[str, Any], Arrays]:
    """Returns the callbacks' state.

    Returns:
        A dict that JSON can hold, by callback and attribute; and the arrays, by a name that the dict refers to.
    """
    state: dict[str, Any] = {}
    arrays: Arrays = {}
    for key, callback in _keyed(callbacks):
        for name in _attributes(callback):
            value = getattr(callback, name)
            if isinstance(value, np.generic):
                value = value.item()
            if value is None or isinstance(value, bool | int | float | str):
                state.setdefault(key, {})[name] = value
            elif _is_list_of_arrays(value):
                names = [f"{key}.{name}.{index:05d}" for index in range(len(value))]
                arrays.update(zip(names, value, strict=True))
                state.setdefault(key, {})[name] = {"arrays": names}
    return state, arrays


def restore(
    callbacks: Sequence[keras.callbacks.Callback],
    state: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray[Any, Any]],
) -> None:
    """Gives callbacks the state of those of the same class; of several, in the order of the list."""
    for key, callback in _keyed(callbacks):
        for name, value in state.get(key, {}).items():
            if isinstance(value, dict):
                value = [arrays[array] for array in value["arrays"]]
            setattr(callback, name, value)
    for key in state.keys() - dict(_keyed(callbacks)).keys():
        logger.warning("the checkpoint has state of a callback %s that this run does not have", key)


def _keyed(callbacks: Sequence[keras.callbacks.Callback]) -> list[tuple[str, keras.callbacks.Callback]]:
    # Without the place in the list: a run may go on with a callback more.
    counts: collections.Counter[str] = collections.Counter()
    keyed = []
    for callback in callbacks:
        name = type(callback).__name__
        counts[name] += 1
        keyed.append((f"{name}-{counts[name]}", callback))
    return keyed


def _attributes(callback: keras.callbacks.Callback) -> list[str]:
    arguments = inspect.signature(type(callback).__init__).parameters
    return [name for name in vars(callback) if not name.startswith("_") and name not in arguments]


def _is_list_of_arrays(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, np.ndarray) for item in value)
