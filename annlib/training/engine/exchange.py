"""What replicas exchange of a gradient: a tensor, which is summed, or what belongs to each row of the batch.

Of an embedding those are slices, one for each lookup. Keras' optimizers take slices as they come: where a row is looked
up twice, Adam adds the squares of both slices, not the square of their sum. To follow the curve of one process,
replicas therefore exchange their slices, and do not add them up. Of a dense layer they are the factors of the gradient.
"""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from annlib.training.engine.factors import Factors

# Indices travel as float32 among the gradients, which holds integers below 2**24: in two digits.
_BASE = 2**20


def keep_slices_of_rows(gradient: Any, batch: Any) -> Any:
    """Returns slices that belong to the rows of a batch as they are, all other slices as a tensor.

    What a model looks up whatever the batch is, such as positions, is one lookup for all rows, on all replicas.

    Args:
        gradient: a tensor, slices, or None of a variable that is not used.
        batch: the tensors from which the gradient was computed.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    tensors = [tensor for tensor in keras.tree.flatten(batch) if tensor is not None]
    num_slices = gradient.values.shape[0]
    # Eager tensors do not know where they come from.
    is_of_rows = num_slices is not None and not tf.executing_eagerly() and _depends(gradient.indices, tensors)
    return gradient if is_of_rows and num_slices % tensors[0].shape[0] == 0 else tf.convert_to_tensor(gradient)


def add(one: Any, other: Any) -> Any:
    """Returns the sum of two gradients, both of the same kind; of slices, all of them."""
    if one is None:
        return None
    if not isinstance(one, tf.IndexedSlices):
        return one + other
    values, indices = tf.concat([one.values, other.values], axis=0), tf.concat([one.indices, other.indices], axis=0)
    return tf.IndexedSlices(values, indices, one.dense_shape)


def scale(gradient: Any, factor: float) -> Any:
    """Returns a gradient times a factor."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient * factor
    return tf.IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)


def place(gradient: Any, own: range, size: int) -> Any:
    """Returns slices at their place among those of the whole batch, zeros elsewhere; another gradient as it is.

    Args:
        gradient: of the batch's rows `own`; where those are none, of one row that weighs nothing.
        own: rows of the batch.
        size: rows of the batch.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    per_row = gradient.values.shape[0] // max(len(own), 1)
    before, num, after = own.start * per_row, len(own) * per_row, (size - own.stop) * per_row
    values = tf.pad(gradient.values[:num], [[before, after], [0, 0]])
    indices = tf.pad(gradient.indices[:num], [[before, after]])
    return tf.IndexedSlices(values, indices, gradient.dense_shape)


def values_of(gradients: Iterable[Any]) -> list[tf.Tensor]:
    """Returns what is summed and may be compressed: the values of slices, and the tensors."""
    return [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients if not isinstance(g, Factors)]


def indices_of(gradients: Iterable[Any]) -> list[tf.Tensor]:
    """Returns what is summed as it is: the indices of slices as float32, two tensors for each."""
    indices = [g.indices for g in gradients if isinstance(g, tf.IndexedSlices)]
    return [tf.cast(digit, tf.float32) for each in indices for digit in (each // _BASE, each % _BASE)]


def rows_of(gradients: Iterable[Any]) -> list[tf.Tensor]:
    """Returns what is gathered: the factors, two tensors for each gradient."""
    return [part for gradient in gradients if isinstance(gradient, Factors) for part in gradient]


def put_together(
    gradients: Iterable[Any], values: Iterable[tf.Tensor], indices: Iterable[tf.Tensor], rows: Iterable[tf.Tensor]
) -> list[Any]:
    """Returns the whole batch's gradients from what the parts of `gradients` above have become."""
    values, digits, rows = iter(values), iter(indices), iter(rows)
    found = []
    for gradient in gradients:
        if isinstance(gradient, Factors):
            found.append(Factors(next(rows), next(rows)).product())
        elif isinstance(gradient, tf.IndexedSlices):
            high, low = (tf.cast(next(digits), gradient.indices.dtype) for _ in range(2))
            found.append(tf.IndexedSlices(next(values), high * _BASE + low, gradient.dense_shape))
        else:
            found.append(next(values))
    return found


def _depends(tensor: tf.Tensor, others: Iterable[tf.Tensor]) -> bool:
    """Tells whether a tensor of a graph is computed from others of it."""
    sources = {id(other.op) for other in others}
    seen: set[int] = set()
    operations = [tensor.op]
    while operations:
        operation = operations.pop()
        if id(operation) in sources:
            return True
        if id(operation) not in seen:
            seen.add(id(operation))
            operations.extend(each.op for each in operation.inputs)
    return False
