"""A split, in memory or on disk, as `fit` and `evaluate` take it."""

from typing import Any

import keras

from annlib.config import RunConfig
from annlib.data import Split
from annlib.data.dataset import StreamedSplit
from annlib.signature import Signature
from annlib.training.engine import StreamedData, evaluate, evaluation_batch_size


def arguments_of(split: Split, signature: Signature) -> tuple[Any, Any, Any]:
    """Returns x, y and sample_weight; of a split on disk all of them are in x."""
    if isinstance(split, StreamedSplit):
        return StreamedData(blocks=split.blocks, model_inputs=signature.model_inputs), None, None
    return signature.model_inputs(split.x), split.y, split.weight


def validation_data_of(split: Split, signature: Signature) -> Any:
    """Returns what `fit` takes as validation_data."""
    x, y, weight = arguments_of(split, signature)
    return x if isinstance(split, StreamedSplit) else (x, y, weight)


def evaluate_split(model: keras.Model, signature: Signature, split: Split, config: RunConfig) -> dict[str, float]:
    """Returns loss and metrics by name, as `metrics.json` has them."""
    x, y, weight = arguments_of(split, signature)
    batch_size = evaluation_batch_size(model, config.global_batch_size)
    metrics: dict[str, float] = evaluate(model, x, y, sample_weight=weight, batch_size=batch_size, return_dict=True)
    return metrics
