"""`keras.Model.fit`, in Keras' own defaults."""

import keras

from annlib.benchmark.cases import BATCH_SIZE, Case, Examples, Weights


class Trainer:
    """Trains with the loss alone: no metrics, no validation."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        self._model = loss_only(build(case, weights))
        self._x, self._y = inputs(train), train.y

    def train(self, epochs: int) -> float:
        """Trains on; returns the loss of the last epoch."""
        history = self._model.fit(self._x, self._y, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)
        return float(history.history["loss"][-1])


def build(case: Case, weights: Weights) -> keras.Model:
    """Returns the compiled Keras model of a case with these weights."""
    model = case.build_model(case.learning_rate)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    for layer, values in zip(dense, weights, strict=True):
        layer.set_weights(values)
    return model


def loss_only(model: keras.Model) -> keras.Model:
    """Compiles the model again without its metrics."""
    # Keras keeps the metrics it has where it is given none.
    model.compile(optimizer=model.optimizer, loss=model.loss, metrics=[])
    return model


def inputs(examples: Examples) -> object:
    """Returns x as Keras takes it: an array, or a tuple of one for each input."""
    return examples.x[0] if len(examples.x) == 1 else examples.x
