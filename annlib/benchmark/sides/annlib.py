"""annlib: the bare training, and the training with all that a user may want of it."""

import contextlib
import os

import keras

from annlib.benchmark.cases import BATCH_SIZE, Case, Examples, Weights
from annlib.benchmark.sides.keras import build, inputs, loss_only
from annlib.training.engine import fit


class Trainer:
    """Trains with the loss alone, as the other sides do."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        self._model = loss_only(build(case, weights))
        self._x, self._y = inputs(train), train.y

    def train(self, epochs: int) -> float:
        """Trains on; returns the loss of the last epoch."""
        history = fit(self._model, self._x, self._y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0, seed=0)
        return float(history.history["loss"][-1])


class AllIncludedTrainer:
    """Trains with the model's metrics, validation each epoch, two callbacks on it, and Keras' progress bar."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        self._model = build(case, weights)
        self._x, self._y = inputs(train), train.y
        self._validation = (inputs(validation), validation.y)

    def train(self, epochs: int) -> float:
        """Trains on; returns the loss of the last epoch."""
        callbacks = [
            keras.callbacks.EarlyStopping(patience=10**9),
            keras.callbacks.ReduceLROnPlateau(patience=10**9),
        ]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            history = fit(
                self._model,
                self._x,
                self._y,
                batch_size=BATCH_SIZE,
                epochs=epochs,
                verbose=1,
                callbacks=callbacks,
                validation_data=self._validation,
                seed=0,
            )
        return float(history.history["loss"][-1])
