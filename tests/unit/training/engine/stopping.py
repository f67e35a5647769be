"""A training that ends as one of a lost process does, with what a checkpoint holds, and the callback that goes on."""

from typing import Any

import keras

from annlib.training.engine import metric_state, set_metric_state


def variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.trainable_variables, *model.non_trainable_variables, *model.optimizer.variables]


class Stop(keras.callbacks.Callback):
    """Keeps the state of the model and its metrics, then raises InterruptedError."""

    def stop(self) -> None:
        self.metrics = metric_state(self.model)
        self.values = [variable.numpy() for variable in variables(self.model)]
        raise InterruptedError


class Restore(keras.callbacks.Callback):
    def __init__(self, metrics: list[Any]) -> None:
        super().__init__()
        self._metrics = metrics

    def on_train_begin(self, logs: Any = None) -> None:
        set_metric_state(self.model, self._metrics)
