"""Classifiers of small grey images: an MLP, in the book 300-100 ReLU neurons and a softmax, trained by SGD."""

from typing import TYPE_CHECKING

from annlib.config import RunConfig

if TYPE_CHECKING:
    import keras

    from annlib.data import Dataset

BOOK_MLP = {"hidden": (300, 100), "activation": "relu", "optimizer": "sgd"}


def build_model(data: "Dataset", config: RunConfig, *, max_value: float) -> "keras.Model":
    """Returns the compiled model for images of `data` with pixels from 0 to `max_value`."""
    from annlib.models.mlp import BOOK_CLASSIFIER_HIDDEN, classification_mlp
    from annlib.models.optimizers import make_optimizer
    from annlib.models.targets import ClassificationTask
    from annlib.training.schedule import learning_rate

    assert data.class_names is not None
    # The classes come from their names, because a small training split may lack one.
    task = ClassificationTask(kind="multiclass", num_classes=len(data.class_names), encoding="sparse")
    assert config.activation is not None
    assert config.optimizer is not None
    return classification_mlp(
        data.train.x.shape[1:],
        task,
        hidden=None if config.hidden == BOOK_CLASSIFIER_HIDDEN else config.hidden,
        hidden_activation=config.activation,
        max_value=max_value,
        optimizer=make_optimizer(config.optimizer, learning_rate(config, len(data.train))),
    )
