"""scikit-learn's `MLPClassifier` and `MLPRegressor`."""

from typing import Any

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor

from annlib.benchmark.cases import BATCH_SIZE, Case, Examples, Weights


class Trainer:
    """Trains an epoch a call of `partial_fit`, with plain SGD."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        (self._x,) = train.flat_x
        self._y = train.y
        # Its regressor's loss is half the squared error, so that it takes twice the step for the same update.
        self._factor = 1.0 if case.num_classes else 2.0
        options: dict[str, Any] = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "batch_size": BATCH_SIZE}
        options |= {"learning_rate_init": case.learning_rate * self._factor, "random_state": 0}
        self._model = (MLPClassifier if case.num_classes else MLPRegressor)(hidden_layer_sizes=case.hidden, **options)
        # A first call makes the weights, which are then replaced.
        first = slice(0, BATCH_SIZE)
        classes = {"classes": np.arange(case.num_classes)} if case.num_classes else {}
        self._model.partial_fit(self._x[first], self._y[first], **classes)
        for index, (kernel, bias) in enumerate(weights):
            self._model.coefs_[index][...] = kernel
            self._model.intercepts_[index][...] = bias

    def train(self, epochs: int) -> float:
        """Trains on; returns the loss of the last epoch."""
        for _ in range(epochs):
            self._model.partial_fit(self._x, self._y)
        return float(self._model.loss_curve_[-1]) * self._factor
