"""The training engine: `keras.Model.fit` with whole epochs inside one compiled function."""

from annlib.training.engine.batching import evaluation_batch_size
from annlib.training.engine.evaluation import evaluate, predict
from annlib.training.engine.fit import fit
from annlib.training.engine.metric_state import metric_names, metric_state, set_metric_state, validates_in_parts
from annlib.training.engine.options import StepOptions
from annlib.training.engine.sources import StreamedData

__all__ = [
    "StepOptions",
    "StreamedData",
    "evaluate",
    "evaluation_batch_size",
    "fit",
    "metric_names",
    "metric_state",
    "predict",
    "set_metric_state",
    "validates_in_parts",
]
