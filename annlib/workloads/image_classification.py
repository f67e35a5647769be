"""The book's classifier of small grey images, 300-100 ReLU neurons and a softmax, trained by SGD."""

from typing import TYPE_CHECKING

from annlib.config import RunConfig
from annlib.data import Dataset

if TYPE_CHECKING:
    import keras


def build_model(data: Dataset, config: RunConfig, *, max_value: float) -> "keras.Model":
    """Returns the compiled model for images of `data` with pixels from 0 to `max_value`."""
    import keras

    from annlib.models.mlp import image_classification_mlp
    from annlib.training.schedule import learning_rate

    assert data.class_names is not None
    model = image_classification_mlp(data.train.x.shape[1:], len(data.class_names), max_value=max_value)
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate(config, len(data.train))),
        loss="sparse_categorical_crossentropy",
        metrics=["sparse_categorical_accuracy"],
    )
    return model
