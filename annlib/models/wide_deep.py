"""Wide & deep regressors as in A. Géron, Hands-On Machine Learning, chapter 10 (Cheng et al., 2016).

The wide path brings features straight to the output, the deep path brings them there through hidden layers, so that
the model learns both simple rules and deep patterns.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from annlib.errors import DataError
from annlib.models.mlp import (
    Moments,
    check_hidden,
    check_regression_loss,
    find_optimizer,
    hidden_layers,
    regression_metrics,
    standardizing_layers,
)
from annlib.models.targets import check_count

# The features of California housing, of which the book gives 0 to 4 to the wide path and 2 to 7 to the deep path.
NUM_FEATURES = 8
NUM_WIDE = 5
NUM_DEEP = 6
# The auxiliary output regularises the deep path; the main output is what counts.
MAIN_LOSS_WEIGHT = 0.9
AUX_LOSS_WEIGHT = 0.1


def wide_deep(
    num_features: int,
    *,
    hidden: Sequence[int] = (30, 30),
    hidden_activation: str = "relu",
    loss: str = "mse",
    optimizer: str | keras.optimizers.Optimizer = "sgd",
    moments: Moments | None = None,
) -> keras.Model:
    """Returns a compiled regressor that gives all features to both paths.

    Args:
        num_features: columns of the input, 1 or more.
        hidden: neurons of each hidden layer of the deep path, typically 1 to 5 layers of 10 to 100.
        hidden_activation: typically "relu" or "selu".
        loss: "mse"; "mae" or "huber" (delta 1, in the unit of the target) if there are outliers.
        optimizer: a Keras optimizer or its name; "sgd" has the learning rate 0.01.
        moments: mean and variance of each feature over the training split, by which the model standardises its input.

    Returns:
        A model of inputs, shape (batch, num_features), to predictions, float32, shape (batch, 1).

    Raises:
        ConfigError: an argument is impossible.
    """
    check_count("num_features", num_features, minimum=1)
    check_regression_loss(loss)
    check_hidden(hidden)
    layers = hidden_layers(hidden, hidden_activation)
    features = keras.Input((num_features,))
    standardized = _standardize(features, moments)
    output, _ = _paths(standardized, standardized, layers)
    model = keras.Model(features, output)
    model.compile(optimizer=find_optimizer(optimizer), loss=loss, metrics=regression_metrics())
    return model


def wide_deep_two_inputs(
    num_wide: int = NUM_WIDE,
    num_deep: int = NUM_DEEP,
    *,
    aux_output: bool = False,
    hidden: Sequence[int] = (30, 30),
    hidden_activation: str = "relu",
    loss: str = "mse",
    optimizer: str | keras.optimizers.Optimizer = "sgd",
    wide_moments: Moments | None = None,
    deep_moments: Moments | None = None,
) -> keras.Model:
    """Returns a compiled regressor whose paths get features of their own, as `split_wide_deep` splits them.

    Train it with `x=(wide, deep)`, or `x={"wide_input": wide, "deep_input": deep}`. With the auxiliary output, pass
    the target for each output, `y=(y, y)`; the loss is 0.9 of the main and 0.1 of the auxiliary output's.

    Args:
        num_wide: columns of "wide_input", 1 or more.
        num_deep: columns of "deep_input", 1 or more.
        aux_output: adds an output that sees the deep path alone.
        hidden: neurons of each hidden layer of the deep path, typically 1 to 5 layers of 10 to 100.
        hidden_activation: typically "relu" or "selu".
        loss: of both outputs: "mse"; "mae" or "huber" (delta 1, in the unit of the target) if there are outliers.
        optimizer: a Keras optimizer or its name; "sgd" has the learning rate 0.01, the book takes 0.001 here.
        wide_moments: mean and variance of the features of the wide path, by which the model standardises them.
        deep_moments: the same for the deep path.

    Returns:
        A model to predictions, float32, shape (batch, 1); with the auxiliary output to a list of two, named
        "main_output" and "aux_output".

    Raises:
        ConfigError: an argument is impossible.
    """
    check_count("num_wide", num_wide, minimum=1)
    check_count("num_deep", num_deep, minimum=1)
    check_regression_loss(loss)
    check_hidden(hidden)
    layers = hidden_layers(hidden, hidden_activation)
    wide = keras.Input((num_wide,), name="wide_input")
    deep = keras.Input((num_deep,), name="deep_input")
    output, last_hidden = _paths(_standardize(wide, wide_moments), _standardize(deep, deep_moments), layers)
    if not aux_output:
        model = keras.Model([wide, deep], output)
        model.compile(optimizer=find_optimizer(optimizer), loss=loss, metrics=regression_metrics())
        return model
    model = keras.Model(
        [wide, deep], [output, keras.layers.Dense(1, name="aux_output", dtype=keras.config.floatx())(last_hidden)]
    )
    model.compile(
        optimizer=find_optimizer(optimizer),
        loss=[loss, loss],
        loss_weights=[MAIN_LOSS_WEIGHT, AUX_LOSS_WEIGHT],
        metrics=[regression_metrics(), regression_metrics()],
    )
    return model


def split_wide_deep(x: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Returns the book's inputs of the wide and of the deep path, `(x[:, :5], x[:, 2:])`; three features go to both.

    Args:
        x: shape (n, 8).

    Returns:
        Views, shapes (n, 5) and (n, 6), of the type of `x`.

    Raises:
        DataError: `x` has another shape.
    """
    features = np.asarray(x)
    if features.ndim != 2 or features.shape[1] != NUM_FEATURES:
        raise DataError(
            f"x does not split into the book's columns; expected shape (n, {NUM_FEATURES}); received "
            f"{features.shape}; slice other features yourself and pass num_wide and num_deep"
        )
    return features[:, :NUM_WIDE], features[:, -NUM_DEEP:]


def _standardize(x: Any, moments: Moments | None) -> Any:
    for layer in standardizing_layers(moments, tuple(x.shape[1:])):
        x = layer(x)
    return x


def _paths(wide: Any, deep: Any, layers: list[keras.layers.Layer]) -> tuple[Any, Any]:
    """Returns the main output and the last hidden layer's output."""
    hidden = deep
    for layer in layers:
        hidden = layer(hidden)
    return keras.layers.Dense(1, name="main_output", dtype=keras.config.floatx())(
        keras.layers.concatenate([wide, hidden])
    ), hidden
