"""What depends on how rows are put into batches, and what does not."""

import math
from typing import Any

import keras

from annlib.errors import ConfigError
from annlib.training.engine.compilation import overrides

PREDICT_BATCH_SIZE = 1024
# Values of one layer for one batch of a validation: 4 MB in float32.
_VALUES_OF_A_BATCH = 2**20
# Reductions of a loss whose mean over batches, weighted by their rows, is the mean over all rows.
_MEANS = ("mean", "sum_over_batch_size")


def evaluation_batch_size(model: keras.Model, batch_size: int) -> int:
    """Returns how many rows to evaluate at once where the user did not say.

    More rows than a training step has are faster, as long as what a layer gives for them is small. Where the result
    depends on the batches, or might, they are those of the training, as in Keras.
    """
    try:
        if not _counts_row_by_row(model):
            return batch_size
        outputs = [layer.output for layer in model._flatten_layers(include_self=False)]
        widest = max(math.prod(tensor.shape[1:]) for tensor in keras.tree.flatten(outputs))
    except (AttributeError, TypeError, ValueError):
        # The sizes are known after a call alone: a subclassed model, or sequences of any length.
        return batch_size
    return int(max(batch_size, min(PREDICT_BATCH_SIZE, _VALUES_OF_A_BATCH // widest)))


def predict_batch_size(model: keras.Model) -> int:
    """Returns how many rows to predict at once where the user did not say: 32, as Keras, where others may change it."""
    try:
        if not overrides(model, keras.Model, "predict_step") and _layers_go_row_by_row(model):
            return PREDICT_BATCH_SIZE
    except (AttributeError, ValueError):
        # A subclassed model, whose layers may be called in any way.
        pass
    return 32


def _counts_row_by_row(model: keras.Model) -> bool:
    """Tells whether loss and metrics are means over the rows for sure, however those are put into batches."""
    if overrides(model, keras.Model, "test_step"):
        return False
    losses, compiled_metrics = losses_of(model), model._compile_metrics
    metrics = []
    if compiled_metrics is not None:
        metrics = _flat((compiled_metrics._user_metrics, compiled_metrics._user_weighted_metrics))
    return (
        all(is_known(part) for part in (*losses, *metrics))
        and _layers_go_row_by_row(model)
        # Keras takes the mean of a metric along the last axis, which is that of the rows here.
        and all(len(output.shape) > 1 for output in keras.tree.flatten(model.outputs))
        and not any(_mixes_rows(loss) for loss in losses)
        and not any(_goes_along_the_rows(part) for part in (*losses, *metrics))
        and all(getattr(loss, "reduction", "mean") in _MEANS for loss in losses)
    )


def losses_of(model: keras.Model) -> list[Any]:
    """Returns the losses that a model was compiled with, objects or functions."""
    compiled = model._compile_loss
    return [] if compiled is None else [keras.losses.get(loss) for loss in _flat(compiled._user_loss)]


def _layers_go_row_by_row(model: keras.Model) -> bool:
    """Tells whether a model does the same with a row for sure, whatever the others of its batch are."""
    layers = model._flatten_layers(include_self=False)
    models = [model, *(layer for layer in layers if isinstance(layer, keras.Model))]
    # Operations such as a matrix product with another input, which are no layers, may do anything.
    operations = [operation for each in models for operation in getattr(each, "operations", ())]
    return (
        is_known(type(model).call)
        and all(is_known(layer) for layer in layers)
        and all(isinstance(operation, keras.Layer) for operation in operations)
        and all(_goes_row_by_row(layer) for layer in layers)
        # Of a batch whose size is given.
        and all(tensor.shape[0] is None for tensor in keras.tree.flatten(model.inputs))
    )


def _goes_row_by_row(layer: keras.Layer) -> bool:
    """Tells whether a known layer does the same with a row, and adds the same to the loss, whatever the others are."""
    has_mask = getattr(layer, "mask_zero", isinstance(layer, keras.layers.Masking))
    activations = [getattr(layer, name, None) for name in ("activation", "recurrent_activation")]
    axes = getattr(layer, "axis", getattr(layer, "axes", None))
    rank = len(keras.tree.flatten(layer.output)[0].shape)
    return not (
        has_mask
        or getattr(layer, "stateful", False)
        or layer.activity_regularizer is not None
        or isinstance(layer, keras.layers.Lambda)
        or not all(is_known(activation) for activation in activations if activation is not None)
        or any(axis is not None and axis % rank == 0 for axis in keras.tree.flatten(axes))
    )


def _flat(given: Any) -> list[Any]:
    return [part for part in keras.tree.flatten(given) if part is not None]


def _mixes_rows(loss: Any) -> bool:
    """Tells whether a loss of Keras, an object or a function, is that of a batch, not the mean of its rows'."""
    if getattr(loss, "fn", loss) in (keras.losses.circle, keras.losses.dice, keras.losses.tversky):
        return True
    # It divides by the labels that count, of which each batch has its own number.
    return getattr(loss, "ignore_class", None) is not None and loss.reduction != "sum"


def _goes_along_the_rows(part: Any) -> bool:
    """Tells whether a loss or metric of Keras is asked to compute along the axis of the rows."""
    keywords = getattr(part, "_fn_kwargs", {})
    return 0 in keras.tree.flatten([getattr(part, "axis", None), keywords.get("axis")])


def is_known(part: Any) -> bool:
    """Tells whether a layer, loss or metric is one of Keras or annlib, not of the user."""
    # A function, an object that calls one, the name of a metric, or an object of a class.
    function = getattr(part, "fn", None) or getattr(part, "_fn", None) or part
    modules = [getattr(function, "__module__", "keras"), type(part).__module__]
    return all(module.split(".")[0] in ("keras", "annlib", "builtins") for module in modules)


def common_reduction(model: keras.Model) -> str:
    """Returns how all losses of a built model are reduced: "mean", "sum" or "mean_with_sample_weight".

    Raises:
        ConfigError: they are reduced in other or several ways, or a loss is not one of rows, so that the loss of a
            batch is not known from those of its parts.
    """
    entries = model._compile_loss._flat_losses if model._compile_loss is not None else []
    losses = [entry.loss for entry in entries]
    if mixed := [loss.name for loss in losses if _mixes_rows(loss)]:
        raise ConfigError(
            f"the loss {mixed[0]} is one of a whole batch: expected one of each row under a distribution strategy, "
            "where a worker has some rows. Give another loss, or train in one process (--num-workers 0)."
        )
    kinds = {str(loss.reduction).replace("sum_over_batch_size", "mean") for loss in losses} or {"mean"}
    if len(kinds) > 1 or not kinds <= {"mean", "sum", "mean_with_sample_weight"}:
        raise ConfigError(
            f"the model's losses are reduced by {', '.join(sorted(kinds))}: expected one reduction for all of them "
            "under a distribution strategy. Give every loss the same `reduction`, or train in one process "
            "(--num-workers 0)."
        )
    return kinds.pop()
