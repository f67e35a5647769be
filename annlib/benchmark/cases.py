"""What is timed: a data set and a model, described so that every framework can build the same."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annlib import data

if TYPE_CHECKING:
    import keras

BATCH_SIZE = 32
Weights = list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """One split as a model takes it.

    Args:
        x: an array for each input: (all,), or (wide, deep); shapes (n, ...).
        y: targets, shape (n,).
    """

    x: tuple[npt.NDArray[Any], ...]
    y: npt.NDArray[Any]

    @property
    def flat_x(self) -> tuple[npt.NDArray[np.float32], ...]:
        """The inputs as float32, shapes (n, features), images from 0 to 1: what the other frameworks are given."""
        scale = [np.float32(255 if part.dtype == np.uint8 else 1) for part in self.x]
        return tuple(p.reshape(len(p), -1).astype(np.float32) / s for p, s in zip(self.x, scale, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A data set and a model of ReLU layers, trained by plain SGD.

    Args:
        title: what the table calls it.
        load: returns training and validation split, given the directory with the raw data files.
        build_model: returns the compiled Keras model.
        hidden: neurons of each hidden layer; a second input, the wide path, joins the last one's output.
        num_classes: classes of a softmax output with cross-entropy; None is one linear output with squared error.
        learning_rate: of SGD.
        epochs: the losses are compared after so many epochs; one measurement takes this or a multiple of it.
    """

    title: str
    load: Callable[[Path | None], tuple[Examples, Examples]]
    build_model: Callable[[float], "keras.Model"]
    hidden: tuple[int, ...]
    num_classes: int | None
    learning_rate: float
    epochs: int

    def layer_sizes(self, examples: Examples) -> list[tuple[int, int]]:
        """Returns the inputs and outputs of each dense layer."""
        widths = [math.prod(part.shape[1:]) for part in examples.x]
        sizes = list(itertools.pairwise((widths[-1], *self.hidden)))
        return [*sizes, (self.hidden[-1] + sum(widths[:-1]), self.num_classes or 1)]


def initial_weights(case: Case, examples: Examples) -> Weights:
    """Returns kernel, shape (inputs, outputs), and bias of each layer, by Glorot's uniform rule from a fixed seed."""
    generator = np.random.default_rng(0)
    weights = []
    for inputs, outputs in case.layer_sizes(examples):
        limit = math.sqrt(6 / (inputs + outputs))
        kernel = generator.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
        weights.append((kernel, np.zeros(outputs, np.float32)))
    return weights


def _load_fashion_mnist(data_dir: Path | None) -> tuple[Examples, Examples]:
    dataset = data.load("fashion-mnist", data_dir=data_dir)
    train, validation = (Examples(x=(split.x,), y=split.y) for split in (dataset.train, dataset.validation))
    return train, validation


def _load_housing(data_dir: Path | None) -> tuple[Examples, Examples]:
    dataset = data.load("california-housing", data_dir=data_dir)
    train, validation = (Examples(x=(split.x,), y=split.y) for split in (dataset.train, dataset.validation))
    return train, validation


def _load_housing_of_two_inputs(data_dir: Path | None) -> tuple[Examples, Examples]:
    # The columns that models.wide_deep.split_wide_deep gives; that module imports Keras.
    train, validation = (
        Examples(x=(split.x[0][:, :5], split.x[0][:, -6:]), y=split.y) for split in _load_housing(data_dir)
    )
    return train, validation


def _fashion_mnist_model(learning_rate: float) -> "keras.Model":
    import keras

    from annlib.models.mlp import classification_mlp
    from annlib.models.targets import ClassificationTask

    task = ClassificationTask(kind="multiclass", num_classes=10, encoding="sparse")
    return classification_mlp((28, 28), task, max_value=255.0, optimizer=keras.optimizers.SGD(learning_rate))


def _regressor(learning_rate: float) -> "keras.Model":
    import keras

    from annlib.models.mlp import regression_mlp

    return regression_mlp(8, optimizer=keras.optimizers.SGD(learning_rate))


def _wide_deep(learning_rate: float) -> "keras.Model":
    import keras

    from annlib.models.wide_deep import wide_deep_two_inputs

    return wide_deep_two_inputs(optimizer=keras.optimizers.SGD(learning_rate))


CASES: Mapping[str, Case] = {
    "fashion-mnist": Case(
        title="Fashion-MNIST 784-300-100-10",
        load=_load_fashion_mnist,
        build_model=_fashion_mnist_model,
        hidden=(300, 100),
        num_classes=10,
        learning_rate=0.01,
        epochs=6,
    ),
    "regressor": Case(
        title="California housing 8-30-1",
        load=_load_housing,
        build_model=_regressor,
        hidden=(30,),
        num_classes=None,
        learning_rate=0.001,
        epochs=10,
    ),
    "wide-deep": Case(
        title="Wide & Deep, two inputs",
        load=_load_housing_of_two_inputs,
        build_model=_wide_deep,
        hidden=(30, 30),
        num_classes=None,
        learning_rate=0.001,
        epochs=10,
    ),
}
