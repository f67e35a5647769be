"""The training engine: `keras.Model.fit` with whole epochs inside one compiled function."""

from annlib.training.engine.evaluation import evaluate, predict
from annlib.training.engine.fit import fit

__all__ = ["evaluate", "fit", "predict"]
