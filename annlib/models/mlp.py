"""Multilayer perceptrons as in A. Géron, Hands-On Machine Learning, chapter 10, tables 10-1 and 10-2.

What the tables call typical is the default, or warned about when it is left; what cannot work is an error.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from annlib.errors import ConfigError, DataError
from annlib.models.targets import ClassificationTask, check_count, classification_task, target_rows

# Mean and variance of each feature, over the training split.
Moments = tuple[npt.ArrayLike, npt.ArrayLike]

TYPICAL_NUM_LAYERS = (1, 5)
TYPICAL_NUM_NEURONS = (10, 100)
TYPICAL_HIDDEN_ACTIVATIONS = ("relu", "selu")
REGRESSION_LOSSES = ("mse", "mae", "huber")
# The book's classifier of Fashion-MNIST, wider than its own table 10-1.
BOOK_CLASSIFIER_HIDDEN = (300, 100)

# What an output activation can reach, or approach.
_OUTPUT_RANGES = {
    None: (-math.inf, math.inf),
    "relu": (0.0, math.inf),
    "softplus": (0.0, math.inf),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}


def classification_mlp(
    input_shape: int | Sequence[int],
    y: npt.ArrayLike | ClassificationTask,
    *,
    hidden: Sequence[int] | None = None,
    hidden_activation: str = "relu",
    optimizer: str | keras.optimizers.Optimizer = "sgd",
    max_value: float | None = None,
    moments: Moments | None = None,
) -> keras.Model:
    """Returns a compiled classifier (table 10-2): output layer, cross-entropy and accuracy fit the task of `y`.

    Args:
        input_shape: number of features, or the shape of a sample, such as (height, width); it is flattened.
        y: targets of the training split, from which `classification_task` finds the task; or the task itself, for
            targets that lack a class, or a multilabel target whose rows happen to have one label each.
        hidden: neurons of each hidden layer, typically 1 to 5 layers of 10 to 100; None is the book's 300 and 100
            for Fashion-MNIST, the one exception from the table that does not warn.
        hidden_activation: typically "relu", or "selu", which gets the LeCun initialisation it needs.
        optimizer: a Keras optimizer or its name; "sgd" has the learning rate 0.01.
        max_value: largest pixel value; the model takes uint8 and divides by it, so that images stay uint8 in memory.
            None takes floating point as it is.
            Floating point given to a model of uint8 is cut to whole numbers by Keras, without a word.
        moments: mean and variance of each feature over the training split, by which the model standardises what it
            gets; None for features that are standardised already.

    Returns:
        A model of inputs, shape (batch, *input_shape), to probabilities, float32, shape (batch, task.num_outputs).

    Raises:
        ConfigError: an argument is impossible.
        DataError: `y` is not a target of a classification.
    """
    task = y if isinstance(y, ClassificationTask) else classification_task(y)
    inputs = _input_layers(input_shape, max_value, moments)
    if hidden is not None:
        check_hidden(hidden)
    layers = hidden_layers(BOOK_CLASSIFIER_HIDDEN if hidden is None else hidden, hidden_activation)
    output = keras.layers.Dense(task.num_outputs, activation=task.output_activation, dtype=keras.config.floatx())
    model = keras.Sequential([*inputs, *layers, output])
    model.compile(optimizer=find_optimizer(optimizer), loss=task.loss, metrics=[task.metric])
    return model


def regression_mlp(
    input_shape: int | Sequence[int],
    num_outputs: int | None = None,
    *,
    y: npt.ArrayLike | None = None,
    hidden: Sequence[int] = (30,),
    hidden_activation: str = "relu",
    output_activation: str | None = None,
    loss: str = "mse",
    optimizer: str | keras.optimizers.Optimizer = "sgd",
    max_value: float | None = None,
    moments: Moments | None = None,
) -> keras.Model:
    """Returns a compiled regressor (table 10-1) that reports the root mean squared and the mean absolute error.

    Args:
        input_shape: number of features, or the shape of a sample; it is flattened.
        num_outputs: output neurons, one per prediction dimension; None takes the columns of `y`, or 1 without `y`.
        y: targets of the training split, shape (n,) or (n, num_outputs), to check against the output layer.
        hidden: neurons of each hidden layer, typically 1 to 5 layers of 10 to 100.
        hidden_activation: typically "relu", or "selu", which gets the LeCun initialisation it needs.
        output_activation: None; "relu" or "softplus" for targets of 0 or more; "sigmoid" for targets from 0 to 1,
            "tanh" from -1 to 1.
        loss: "mse"; "mae" or "huber" (delta 1, in the unit of the target) if there are outliers.
        optimizer: a Keras optimizer or its name; "sgd" has the learning rate 0.01.
        max_value: largest pixel value of uint8 images, as for `classification_mlp`; None for features.
        moments: mean and variance of each feature, as for `classification_mlp`.

    Returns:
        A model of inputs, shape (batch, *input_shape), to predictions, float32, shape (batch, num_outputs).

    Raises:
        ConfigError: an argument is impossible.
        DataError: `y` is not numeric, or the output layer cannot reach it.
    """
    if output_activation not in tuple(_OUTPUT_RANGES):
        known = ", ".join(str(name) for name in _OUTPUT_RANGES)
        raise ConfigError(
            f"output_activation is unknown; expected one of {known}; received {output_activation!r}; take one of them"
        )
    check_regression_loss(loss)
    if num_outputs is not None:
        check_count("num_outputs", num_outputs, minimum=1)
    if y is not None:
        num_outputs = _check_regression_target(target_rows(y), num_outputs, output_activation)
    inputs = _input_layers(input_shape, max_value, moments)
    check_hidden(hidden)
    layers = hidden_layers(hidden, hidden_activation)
    size = 1 if num_outputs is None else num_outputs
    output = keras.layers.Dense(size, activation=output_activation, dtype=keras.config.floatx())
    model = keras.Sequential([*inputs, *layers, output])
    model.compile(optimizer=find_optimizer(optimizer), loss=loss, metrics=regression_metrics())
    return model


# Parts that the wide & deep models share.


def check_hidden(hidden: Sequence[int]) -> None:
    """Checks the neurons of each hidden layer against table 10-1; warns on behalf of the caller's caller.

    Raises:
        ConfigError: there is no layer, or a layer has no neurons.
    """
    if isinstance(hidden, str) or not isinstance(hidden, Sequence) or not hidden:
        raise ConfigError(
            f"hidden names no layers; expected the neurons of 1 or more hidden layers; received {hidden!r}; "
            "write (30,) for one layer of 30"
        )
    for size in hidden:
        check_count("a hidden layer's number of neurons", size, minimum=1)
    low, high = TYPICAL_NUM_LAYERS
    if not low <= len(hidden) <= high:
        warnings.warn(
            f"the number of hidden layers is not typical; typical {low} to {high}; received {len(hidden)}", stacklevel=3
        )
    low, high = TYPICAL_NUM_NEURONS
    if not all(low <= size <= high for size in hidden):
        received = ", ".join(str(size) for size in hidden)
        warnings.warn(
            f"the number of neurons of a hidden layer is not typical; typical {low} to {high}; received {received}",
            stacklevel=3,
        )


def hidden_layers(hidden: Sequence[int], activation: str) -> list[keras.layers.Layer]:
    """Returns a dense layer for each number of neurons; warns on behalf of the caller's caller.

    Raises:
        ConfigError: Keras does not know the activation.
    """
    try:
        if not isinstance(activation, str):
            raise ValueError
        keras.activations.get(activation)
    except ValueError:
        raise ConfigError(
            f"hidden_activation is unknown; expected {' or '.join(TYPICAL_HIDDEN_ACTIVATIONS)}, or another name of a "
            f"Keras activation; received {activation!r}; correct it"
        ) from None
    if activation not in TYPICAL_HIDDEN_ACTIVATIONS:
        typical = " or ".join(TYPICAL_HIDDEN_ACTIVATIONS)
        warnings.warn(f"the hidden activation is not typical; typical {typical}; received {activation}", stacklevel=3)
    # SELU keeps mean 0 and variance 1 only with LeCun's initialisation (Klambauer et al., 2017).
    initializer = "lecun_normal" if activation == "selu" else "glorot_uniform"
    return [keras.layers.Dense(int(size), activation=activation, kernel_initializer=initializer) for size in hidden]


def standardizing_layers(moments: Moments | None, shape: tuple[int, ...]) -> list[keras.layers.Layer]:
    """Returns the layer that standardises inputs of `shape` by these moments; none without moments.

    Raises:
        ConfigError: the moments are not two arrays of that shape, finite, with variances of 0 or more.
    """
    if moments is None:
        return []
    mean, variance = (np.asarray(moment, dtype=np.float64) for moment in moments)
    if (
        mean.shape != shape
        or variance.shape != shape
        or not np.isfinite([mean, variance]).all()
        or (variance < 0).any()
    ):
        raise ConfigError(
            f"moments do not fit the input; expected a finite mean and a variance of 0 or more for each feature, shape "
            f"{shape}; received shapes {mean.shape} and {variance.shape}; take them from the training split"
        )
    return [keras.layers.Normalization(mean=mean, variance=variance)]


def find_optimizer(optimizer: Any) -> keras.optimizers.Optimizer:
    """Returns the optimizer of that name, or the one given.

    Raises:
        ConfigError: there is none of that name, or it already trains another model.
    """
    try:
        found = keras.optimizers.get(optimizer)
        if found is None:
            raise ValueError
    except (ValueError, TypeError):
        raise ConfigError(
            f"optimizer is unknown; expected a Keras optimizer or its name, such as 'sgd'; received {optimizer!r}; "
            "correct it"
        ) from None
    if found.built:
        raise ConfigError(
            f"the optimizer already trains another model; expected a new one; received a used {type(found).__name__}; "
            "make one for each model"
        )
    return found


def check_regression_loss(loss: str) -> None:
    """Raises ConfigError unless it is a loss of table 10-1."""
    if loss not in REGRESSION_LOSSES:
        raise ConfigError(
            f"loss is unknown; expected one of {', '.join(REGRESSION_LOSSES)}; received {loss!r}; take one of them"
        )


def regression_metrics() -> list[Any]:
    """Returns the metrics of a regressor, both in the unit of the target, so that losses can be compared."""
    return [keras.metrics.RootMeanSquaredError(), "mae"]


def _input_layers(input_shape: int | Sequence[int], max_value: float | None, moments: Moments | None) -> list[Any]:
    shape: tuple[Any, ...] = tuple(input_shape) if isinstance(input_shape, Sequence) and input_shape else (input_shape,)
    for size in shape:
        check_count("a dimension of input_shape", size, minimum=1)
    flatten = [keras.layers.Flatten()] if len(shape) > 1 else []
    if max_value is None:
        return [keras.Input(shape), *standardizing_layers(moments, shape), *flatten]
    if moments is not None:
        raise ConfigError(
            "max_value and moments are both given; expected one of them; received both; images take max_value"
        )
    if (
        isinstance(max_value, bool)
        or not isinstance(max_value, int | float | np.number)
        or not 0 < max_value < math.inf
    ):
        raise ConfigError(
            f"max_value is wrong; expected a positive number; received {max_value!r}; 255 for most images"
        )
    return [keras.Input(shape, dtype="uint8"), keras.layers.Rescaling(1.0 / max_value), *flatten]


def _check_regression_target(rows: npt.NDArray[Any], num_outputs: int | None, activation: str | None) -> int:
    columns: int = rows.shape[1]
    if num_outputs not in (None, columns):
        raise DataError(
            f"y does not fit num_outputs; expected {num_outputs} columns; received {columns}; correct one of them"
        )
    low, high = _OUTPUT_RANGES[activation]
    if rows.min() < low or rows.max() > high:
        raise DataError(
            f"y is out of reach of the output activation {activation}; expected {low:g} to {high:g}; received "
            f"{rows.min()} to {rows.max()}; rescale the targets or take another output_activation"
        )
    return columns
