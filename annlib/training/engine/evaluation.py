"""`evaluate` and `predict`."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.training.engine.arguments import (
    callback_list,
    check_compiled,
    check_integer,
    check_no_step_limit,
    check_targets,
)
from annlib.training.engine.arrays import as_dataset, as_keras, num_rows, with_texts
from annlib.training.engine.batching import predict_batch_size
from annlib.training.engine.hooks import with_test_hooks
from annlib.training.engine.program import build, cached, evaluation_program
from annlib.training.engine.sources import StreamedData, bind_evaluation, num_samples, only_streamed


def evaluate(
    model: keras.Model,
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    verbose: int | str = 0,
    *,
    sample_weight: Any = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    return_dict: bool = False,
) -> Any:
    """Returns the loss and the metrics of a compiled model, as `keras.Model.evaluate` does.

    Args:
        model: a compiled Keras 3 model.
        x: inputs, as for `fit`; or `StreamedData`.
        y: targets, as for `fit`.
        batch_size: samples of a batch, 1 or more; 32 when None.
        verbose: 0 silent, 1 or "auto" a progress bar, 2 a line.
        sample_weight: weight of each sample.
        callbacks: Keras callbacks, or one; their test hooks are called.
        return_dict: True returns {name: value}.

    Returns:
        The loss alone, a list [loss, metric, ...], or a dict, as Keras does.

    Raises:
        ConfigError: an argument is out of range, or the model is not compiled.
        DataError: the arrays do not fit together.
    """
    check_compiled(model)
    check_no_step_limit()
    batch_size = check_integer("batch_size", 32 if batch_size is None else batch_size, minimum=1)
    data = only_streamed(x, y=y, sample_weight=sample_weight) or as_dataset(with_texts(model, x), y, sample_weight)
    num_steps = math.ceil(num_samples(data) / batch_size)
    sample = data.load(((0, 1),)) if isinstance(data, StreamedData) else data
    check_targets(model, sample)
    build(model, sample, training=False)
    hooks = callback_list(callbacks, model, verbose, 1, num_steps, add_history=False)
    program = evaluation_program(model, batch_size, num_steps=num_steps)
    logs = with_test_hooks(hooks, [(0, num_steps)], bind_evaluation(program, data, batch_size))
    # Sorted, as by Keras.
    return dict(sorted(logs.items())) if return_dict else model._flatten_metrics_in_order(logs)


def predict(model: keras.Model, x: Any, batch_size: int | None = None, verbose: int | str = 0) -> Any:
    """Returns the model's outputs for x, as `keras.Model.predict` does.

    Args:
        model: a Keras 3 model, compiled or not.
        x: inputs, as for `fit`.
        batch_size: samples of a batch, 1 or more. When None, 1,024 where all layers are Keras' own and go row by row,
            so that the result does not depend on it, else 32.
        verbose: taken for the scripts of Keras that give it; nothing is shown.

    Returns:
        NumPy array of shape (num_samples, ...), or a structure of them like the model's outputs.

    Raises:
        ConfigError: batch_size is out of range.
        DataError: x holds no arrays of equal length.
    """
    check_no_step_limit()
    batch_size = check_integer("batch_size", predict_batch_size(model) if batch_size is None else batch_size, minimum=1)
    data = as_dataset(with_texts(model, x))
    # Of two ranks, one function would be compiled for shapes of which nothing is known.
    ranks = tuple(len(tensor.shape) for tensor in keras.tree.flatten(data))
    forward = model.predict_step
    if not model.run_eagerly:
        forward = cached(
            model, ("predict", ranks), lambda: tf.function(model.predict_step, autograph=False, reduce_retracing=True)
        )
    parts = []
    for start in range(0, num_rows(data), batch_size):
        batch = keras.tree.map_structure(lambda t, start=start: t[start : start + batch_size], data)
        parts.append(keras.tree.map_structure(keras.ops.convert_to_numpy, forward(as_keras(batch))))
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)
