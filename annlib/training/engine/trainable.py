"""Which parts of a model are trained: those of its first training since `compile`, as in Keras."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

_Flags = list[tuple[Any, bool]]


@contextlib.contextmanager
def as_first_trained(model: keras.Model) -> Iterator[None]:
    """Puts `trainable` of all layers and weights to what it was at the model's first training since `compile`.

    Keras goes on with what it has traced then, whatever `trainable` is set to, until the model is compiled again. Here
    there are more traces: for other numbers of rows. A model that runs eagerly is not traced.
    """
    if model.run_eagerly:
        yield
        return
    # As in `program.cached`, of which this is no part: it stays.
    tracker, first = vars(model).get("_annlib_trainable", (None, None))
    now = _flags(model)
    if first is None or tracker is not model._loss_tracker:
        first = now
        vars(model)["_annlib_trainable"] = (model._loss_tracker, first)
    _set(first)
    try:
        yield
    finally:
        _set(now)


def _flags(model: keras.Model) -> _Flags:
    return [(part, part._trainable) for part in (*model._flatten_layers(), *model.variables)]


def _set(flags: _Flags) -> None:
    for part, flag in flags:
        # The property of a layer would set those inside it, too.
        if part._trainable != flag:
            part._trainable = flag
