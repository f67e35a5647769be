"""What `fit` and `evaluate` take of a split, in memory or on disk."""

from typing import Any

from annlib.data import Split
from annlib.data.dataset import StreamedSplit
from annlib.signature import Signature
from annlib.training.engine import StreamedData


def arguments_of(split: Split, signature: Signature) -> tuple[Any, Any, Any]:
    """Returns x, y and sample_weight; of a split on disk all of them are in x."""
    if isinstance(split, StreamedSplit):
        return StreamedData(blocks=split.blocks, model_inputs=signature.model_inputs), None, None
    return signature.model_inputs(split.x), split.y, split.weight


def validation_data_of(split: Split, signature: Signature) -> Any:
    """Returns what `fit` takes as validation_data."""
    x, y, weight = arguments_of(split, signature)
    return x if isinstance(split, StreamedSplit) else (x, y, weight)
