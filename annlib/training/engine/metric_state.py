"""The state of a model's metrics within an epoch, for a checkpoint between two steps."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.training.engine.arrays import as_dataset
from annlib.training.engine.collectives import all_reduce
from annlib.training.engine.program import build, cached


def metric_names(model: keras.Model, x: Any, y: Any) -> tuple[str, ...]:
    """Builds a compiled model for arrays like these, and returns the names of its metrics beside the loss."""
    build(model, as_dataset(*keras.tree.map_structure(lambda array: array[:1], (x, y))))
    variables = model.metrics_variables
    # Read under a distribution strategy, the variables themselves would start a collective.
    with keras.StatelessScope(state_mapping=[(v, tf.zeros(v.shape, v.dtype)) for v in variables]):
        return tuple(name for name in model.get_metrics_result() if name != "loss")


@contextlib.contextmanager
def kept_metric_state(model: keras.Model) -> Iterator[None]:
    """Keeps what `metric_state` returns while a validation sets the metrics to values of its own."""
    vars(model)["_annlib_metric_state"] = metric_state(model)
    try:
        yield
    finally:
        del vars(model)["_annlib_metric_state"]


def validates_in_parts(model: keras.Model) -> bool:
    """Tells whether the model is within a validation that takes more than one call."""
    return "_annlib_metric_state" in vars(model)


def metric_state(model: keras.Model) -> list[np.ndarray[Any, Any]]:
    """Returns the values of all metric variables, summed over all replicas. All workers have to call it.

    Metrics count and add up, so that any number of replicas can go on from the sums. Within a validation in parts, they
    are those of the training before it.
    """
    if validates_in_parts(model):
        kept: list[np.ndarray[Any, Any]] = vars(model)["_annlib_metric_state"]
        return kept
    strategy = model.distribute_strategy
    variables = model.metrics_variables
    if strategy.num_replicas_in_sync == 1:
        return [variable.numpy() for variable in variables]

    def reduce() -> list[tf.Tensor]:
        return all_reduce([v.value.read_value() for v in variables], tf.float64)

    program = cached(model, ("metric_state",), lambda: tf.function(lambda: strategy.run(reduce), autograph=False))
    return [strategy.experimental_local_results(value)[0].numpy() for value in program()]


def set_metric_state(model: keras.Model, values: Sequence[np.ndarray[Any, Any]]) -> None:
    """Puts back what `metric_state` returned: the first replica goes on from the sums, the others from zero."""
    strategy = model.distribute_strategy
    variables = model.metrics_variables

    def assign() -> None:
        replica = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
        for variable, value in zip(variables, values, strict=True):
            tensor = tf.convert_to_tensor(value, variable.value.dtype)
            variable.value.assign(tensor if replica == 0 else tf.zeros_like(tensor))

    strategy.run(tf.function(assign, autograph=False))
