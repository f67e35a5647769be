"""The training engine: `keras.Model.fit` with whole epochs inside one compiled function."""

from annlib.training.engine.fit import evaluate, fit, predict

__all__ = ["evaluate", "fit", "predict"]
