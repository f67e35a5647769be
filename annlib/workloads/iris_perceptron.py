"""The book's perceptron: setosa or not, from petal length and width (A. Géron, Hands-On ML, chapter 10).

Batches of one sample and `PerceptronLoss` make stochastic gradient descent the perceptron learning rule.

Command: python jobs/train.py iris-perceptron
Measured, seeds 1 to 5: accuracy 1.0 on all three splits.
"""

from typing import TYPE_CHECKING

from annlib import data
from annlib.config import RunConfig
from annlib.training.workload import Workload
from annlib.workloads import regression

if TYPE_CHECKING:
    import keras

PETAL_COLUMNS = (2, 3)
SETOSA = 0


def load_data(config: RunConfig) -> "data.Dataset":
    """Returns 84 training, 28 validation and 38 test flowers with petal length and width in cm."""
    iris = data.load("iris", data_dir=config.data_dir, standardize=False)
    assert iris.feature_names is not None

    def setosa_or_not(split: data.Split) -> data.Split:
        return data.Split(x=split.x[:, list(PETAL_COLUMNS)], y=(split.y == SETOSA).astype("uint8"))

    return data.Dataset(
        name="iris-setosa",
        train=setosa_or_not(iris.train),
        validation=setosa_or_not(iris.validation),
        test=setosa_or_not(iris.test),
        class_names=("not setosa", "setosa"),
        feature_names=tuple(iris.feature_names[column] for column in PETAL_COLUMNS),
    )


def build_model(dataset: "data.Dataset", config: RunConfig) -> "keras.Model":
    """Returns the compiled threshold logic unit; it is setosa where the output is 0 or more."""
    import keras

    from annlib.models.losses import PerceptronLoss, perceptron

    model = perceptron()
    model.compile(
        optimizer=regression.sgd(dataset, config),
        loss=PerceptronLoss(),
        metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)],
    )
    return model


WORKLOAD = Workload(
    name="iris-perceptron",
    description="tell setosa from other irises by petal length and width, one perceptron, offline",
    load_data=load_data,
    build_model=build_model,
    defaults={"epochs": 20, "global_batch_size": 1, "learning_rate": 1.0},
    metrics=("binary_accuracy",),
    output="score",
)
