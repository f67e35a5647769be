"""The loss whose gradient is the perceptron learning rule."""

from typing import Any

import keras


@keras.saving.register_keras_serializable("annlib")
class PerceptronLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """(ŷ - y) z, with ŷ = heaviside(z) taken as a constant; 0 where the prediction is right, else |z|.

    Its gradient by z is ŷ - y, so that stochastic gradient descent with batches of one sample is the perceptron
    learning rule, w += η (y - ŷ) x (A. Géron, Hands-On Machine Learning, chapter 10, equation 10-3), also at z = 0,
    where the book's step function is 1.

    Args of the call: targets 0 or 1 and linear outputs z, both of shape (batch, 1) or (batch,).
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the loss of each sample, shape (batch,)."""
        z = keras.ops.convert_to_tensor(y_pred)
        y = keras.ops.reshape(keras.ops.cast(y_true, z.dtype), keras.ops.shape(z))
        predicted = keras.ops.cast(z >= 0, z.dtype)
        return keras.ops.mean(keras.ops.stop_gradient(predicted - y) * z, axis=-1)


def perceptron() -> keras.Model:
    """Returns an uncompiled threshold logic unit of two inputs without its step: zero weights, output z = xw + b."""
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="zeros")])
