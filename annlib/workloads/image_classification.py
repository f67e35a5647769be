"""The book's classifier of small grey images, 300-100 ReLU neurons and a softmax, trained by SGD."""

from typing import TYPE_CHECKING

from annlib.config import RunConfig
from annlib.data import Dataset

if TYPE_CHECKING:
    import keras


def build_model(data: Dataset, config: RunConfig, *, max_value: float) -> "keras.Model":
    """Returns the compiled model for images of `data` with pixels from 0 to `max_value`."""
    import keras

    from annlib.models.mlp import classification_mlp
    from annlib.models.targets import ClassificationTask
    from annlib.training.schedule import learning_rate

    assert data.class_names is not None
    # The classes come from their names, because a small training split may lack one.
    task = ClassificationTask(kind="multiclass", num_classes=len(data.class_names), encoding="sparse")
    optimizer = keras.optimizers.SGD(learning_rate(config, len(data.train)))
    return classification_mlp(data.train.x.shape[1:], task, max_value=max_value, optimizer=optimizer)
