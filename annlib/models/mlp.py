"""Multilayer perceptrons as in A. Géron, Hands-On Machine Learning, chapter 10."""

from collections.abc import Sequence

import keras


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
    layers = [keras.layers.Dense(size, activation="relu") for size in hidden]
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8"),
            keras.layers.Rescaling(1.0 / max_value),
            keras.layers.Flatten(),
            *layers,
            keras.layers.Dense(num_classes, activation="softmax"),
        ]
    )
