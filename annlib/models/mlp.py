"""Multilayer perceptrons as in A. Géron, Hands-On Machine Learning, chapter 10, tables 10-1 and 10-2.

What the tables call typical is the default, or warned about when it is left; what cannot work is an error.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from annlib.errors import ConfigError, DataError

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
# Table 10-2: (kind, encoding) to output activation, loss and metric.
_CLASSIFICATION = {
    ("binary", "sparse"): ("sigmoid", "binary_crossentropy", "binary_accuracy"),
    ("multilabel", "multi-hot"): ("sigmoid", "binary_crossentropy", "binary_accuracy"),
    ("multiclass", "sparse"): ("softmax", "sparse_categorical_crossentropy", "sparse_categorical_accuracy"),
    ("multiclass", "one-hot"): ("softmax", "categorical_crossentropy", "categorical_accuracy"),
}


@dataclass(frozen=True, kw_only=True)
class ClassificationTask:
    """What a classifier has to tell apart; decides its output layer, loss and metric by table 10-2.

    Args:
        kind: "binary", "multiclass" (exactly one class a sample) or "multilabel" (any number of labels a sample).
        num_classes: classes, 2 if binary, else 2 or more; labels if multilabel.
        encoding: "sparse", a class index a sample, shape (n,) or (n, 1); "one-hot", shape (n, num_classes), of a
            multiclass target; "multi-hot", shape (n, num_classes), of a multilabel target.

    Raises:
        ConfigError: the kind does not come in that encoding, or the number of classes does not fit the kind.
    """

    kind: Literal["binary", "multiclass", "multilabel"]
    num_classes: int
    encoding: Literal["sparse", "one-hot", "multi-hot"]

    def __post_init__(self) -> None:
        if (self.kind, self.encoding) not in _CLASSIFICATION:
            known = ", ".join(" ".join(pair) for pair in _CLASSIFICATION)
            raise ConfigError(
                f"the classification task is unknown; expected one of {known}; received {self.kind} {self.encoding}; "
                "correct kind or encoding"
            )
        check_count("num_classes", self.num_classes, minimum=2)
        if self.kind == "binary" and self.num_classes != 2:
            raise ConfigError(
                f"a binary task has another number of classes; expected 2; received {self.num_classes}; "
                "use kind='multiclass'"
            )

    @property
    def num_outputs(self) -> int:
        """Output neurons: 1 if binary, else one per class or label."""
        return 1 if self.kind == "binary" else self.num_classes

    @property
    def output_activation(self) -> str:
        """The sigmoid or the softmax."""
        return _CLASSIFICATION[self.kind, self.encoding][0]

    @property
    def loss(self) -> str:
        """The cross-entropy of this kind and encoding, by its Keras name."""
        return _CLASSIFICATION[self.kind, self.encoding][1]

    @property
    def metric(self) -> str:
        """The accuracy of this kind and encoding, by its Keras name; of a multilabel task the mean over all labels."""
        return _CLASSIFICATION[self.kind, self.encoding][2]


def classification_task(y: npt.ArrayLike) -> ClassificationTask:
    """Finds out from the targets what kind of classification it is.

    - Shape (n,) or (n, 1), values 0 and 1: binary.
    - Shape (n,) or (n, 1), whole numbers 0 to k - 1 with k of 3 or more, each present: multiclass, sparse.
    - Shape (n, k), zeros and ones, exactly one 1 in every row: multiclass, one-hot.
    - Shape (n, k), other zeros and ones: multilabel.

    Args:
        y: targets of the training split, boolean, integer or floating point (1.0 counts as 1).

    Raises:
        DataError: the targets are none of these, hold NaN, or are the same for all samples.
    """
    rows = _target_rows(y)
    if (rows == rows[0]).all():
        raise DataError(
            f"y holds one class only; expected 2 or more; received {rows[0].tolist()} in all {len(rows)} rows; "
            "add samples of other classes"
        )
    if rows.shape[1] == 1:
        num_classes = _num_sparse_classes(rows)
        return ClassificationTask(
            kind="binary" if num_classes == 2 else "multiclass", num_classes=num_classes, encoding="sparse"
        )
    wrong = rows[(rows != 0) & (rows != 1)]
    if wrong.size:
        raise DataError(
            f"y of shape {rows.shape} is neither one-hot nor multilabel; expected zeros and ones; received {wrong[0]}; "
            "pass class indices of shape (n,), or encode each column"
        )
    if (rows.sum(axis=1) == 1).all():
        return ClassificationTask(kind="multiclass", num_classes=rows.shape[1], encoding="one-hot")
    return ClassificationTask(kind="multilabel", num_classes=rows.shape[1], encoding="multi-hot")


def _target_rows(y: npt.ArrayLike) -> npt.NDArray[Any]:
    """Returns the targets, finite numbers, in the shape (n, columns)."""
    try:
        array = np.asarray(y)
    except ValueError:
        raise DataError(
            "y is ragged; expected rows of equal length; received rows of different lengths; encode labels as 0 and 1"
        ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"y is not numeric; expected numbers; received dtype {array.dtype}; convert it, classes for example with "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise DataError(f"y has another shape; expected (n,) or (n, k), not empty; received {array.shape}; reshape it")
    num_bad = np.count_nonzero(~np.isfinite(array))
    if num_bad:
        raise DataError(f"y is not finite; expected numbers; received {num_bad} NaN or infinite; clean the data")
    return array.reshape(len(array), -1)


def _num_sparse_classes(rows: npt.NDArray[Any]) -> int:
    labels = np.unique(rows)
    renumber = "renumber them with numpy.unique(y, return_inverse=True)[1]"
    fractions = labels[labels != np.floor(labels)] if labels.dtype.kind == "f" else labels[:0]
    if fractions.size:
        raise DataError(
            f"y holds no class labels; expected whole numbers; received {fractions[0]}; is this a regression?"
        )
    expected = f"expected 0 to {len(labels) - 1}"
    if labels[0] != 0:
        raise DataError(
            f"the labels of y do not start at 0; {expected}; received {labels[0]} to {labels[-1]}; {renumber}"
        )
    if labels[-1] != len(labels) - 1:
        raise DataError(
            f"the labels of y skip a class; {expected}; received {len(labels)} different labels up to {labels[-1]}; "
            f"{renumber}, or pass a ClassificationTask"
        )
    return len(labels)


def classification_mlp(
    input_shape: int | Sequence[int],
    y: npt.ArrayLike | ClassificationTask,
    *,
    hidden: Sequence[int] | None = None,
    hidden_activation: str = "relu",
    optimizer: str | keras.optimizers.Optimizer = "sgd",
    max_value: float | None = None,
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

    Returns:
        A model of inputs, shape (batch, *input_shape), to probabilities, float32, shape (batch, task.num_outputs).

    Raises:
        ConfigError: an argument is impossible.
        DataError: `y` is not a target of a classification.
    """
    task = y if isinstance(y, ClassificationTask) else classification_task(y)
    inputs = _input_layers(input_shape, max_value)
    if hidden is not None:
        check_hidden(hidden)
    layers = hidden_layers(BOOK_CLASSIFIER_HIDDEN if hidden is None else hidden, hidden_activation)
    output = keras.layers.Dense(task.num_outputs, activation=task.output_activation)
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
        num_outputs = _check_regression_target(_target_rows(y), num_outputs, output_activation)
    inputs = _input_layers(input_shape, max_value)
    check_hidden(hidden)
    layers = hidden_layers(hidden, hidden_activation)
    output = keras.layers.Dense(1 if num_outputs is None else num_outputs, activation=output_activation)
    model = keras.Sequential([*inputs, *layers, output])
    model.compile(optimizer=find_optimizer(optimizer), loss=loss, metrics=regression_metrics())
    return model


def image_classification_mlp(
    image_shape: tuple[int, ...], num_classes: int, *, max_value: float, hidden: Sequence[int] = (300, 100)
) -> keras.Model:
    """Returns an uncompiled classifier for small grey images.

    Args:
        image_shape: (height, width) in pixels.
        num_classes: neurons of the softmax output, 2 or more.
        max_value: largest pixel value; the model divides by it, so that images stay uint8 in memory.
        hidden: neurons of each hidden ReLU layer.

    Returns:
        A model of uint8 images, shape (batch, height, width), to probabilities, float32, shape (batch, num_classes).
    """
    output = keras.layers.Dense(num_classes, activation="softmax")
    return keras.Sequential([*_input_layers(image_shape, max_value), *hidden_layers(hidden, "relu"), output])


# Parts that the wide & deep models share.


def check_count(name: str, value: Any, *, minimum: int) -> None:
    """Raises ConfigError unless `value` is a whole number of `minimum` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ConfigError(
            f"{name} is wrong; expected a whole number of {minimum} or more; received {value!r}; correct it"
        )


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


def _input_layers(input_shape: int | Sequence[int], max_value: float | None) -> list[Any]:
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) and input_shape else (input_shape,)
    for size in shape:
        check_count("a dimension of input_shape", size, minimum=1)
    flatten = [keras.layers.Flatten()] if len(shape) > 1 else []
    if max_value is None:
        return [keras.Input(shape), *flatten]
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
