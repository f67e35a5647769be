"""Loops over the steps of small models, each compiled by XLA as one function of machine code.

XLA's CPU runtime calls each operation of a loop's body by itself, which takes about 0.3 us: more than half of a step of
an MLP 8-30-1. It can compile a loop as one function instead, but has only plain nested loops for matrix products there.
They are fast where the dimension that is summed is short enough to be unrolled, where the columns fill vector
registers, and where rows are read as they lie in memory; `products` makes it so. Loops of other models are kept from
that: with 64 neurons a step would take five times as long.
"""

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, Literal

import keras
import tensorflow as tf
from keras.src.models.functional import Functional
from tensorflow.compiler.tf2xla.ops import gen_xla_ops

from annlib.training.engine.products import Multiply, multiplying

# Of what is summed in an unrolled loop: features or neurons, or the rows of a batch.
_MAX_DIMENSION = 32
# Compiling six dense layers as one function takes 0.6 s longer, twenty 4.4 s; 30,000 and 90,000 steps gain that back.
_MAX_LAYERS, _MANY_STEPS = 4, 100_000
# float32 values of a vector register of AVX2, which XLA prefers where there is AVX-512, too.
_VECTOR = 8

# XLA takes loops whose bodies read and write less than this, by itself 1 kB; a step of six layers of 32 takes 1.5 MB.
XLA_OPTION = f"--xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold={2**22}"

# Layers whose values need no matrix product.
_PLAIN_LAYERS = (
    keras.layers.InputLayer,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.Add,
    keras.layers.Concatenate,
    keras.layers.Flatten,
    keras.layers.Normalization,
    keras.layers.Rescaling,
)

# What becomes of the loops of the graph that is being traced: what TensorFlow makes of them, a function each, or calls
# of each operation.
LoopKind = Literal["graph", "function", "calls"]
_kind: contextvars.ContextVar[LoopKind] = contextvars.ContextVar("kind of the loops", default="graph")


def is_small(model: keras.Model, *, batch_size: int, num_steps: int) -> bool:
    """Tells whether the loops over the steps of a model are faster as a function each.

    Args:
        model: a built Keras model.
        batch_size: rows of a batch of the training.
        num_steps: steps to run in all.
    """
    if batch_size > _MAX_DIMENSION or not _is_small_model(model):
        return False
    num_layers = sum(isinstance(layer, keras.layers.Dense) for layer in model._flatten_layers())
    return num_layers <= _MAX_LAYERS or num_steps >= _MANY_STEPS


def _is_small_model(model: keras.Model) -> bool:
    if type(model) not in (keras.Sequential, Functional):
        return False
    # Also functions of `keras.ops`, which may do anything.
    operations = model.layers if type(model) is keras.Sequential else model.operations
    return all(type(each) in _PLAIN_LAYERS or _is_small_dense(each) or _is_small_model(each) for each in operations)


def _is_small_dense(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.Dense
        and len(layer.input.shape) == 2
        and (layer.units == 1 or max(layer.kernel.shape) <= _MAX_DIMENSION)
        and layer.dtype_policy.name == "float32"
        and not layer.lora_enabled
    )


@contextlib.contextmanager
def tracing(kind: LoopKind) -> Iterator[None]:
    """Says what becomes of the loops that are traced meanwhile."""
    token = _kind.set(kind)
    try:
        yield
    finally:
        _kind.reset(token)


def goes_on(index: tf.Tensor, end: tf.Tensor) -> tf.Tensor:
    """Returns the condition of a loop over steps or epochs: index < end."""
    if _kind.get() == "calls":
        # XLA does not compile a loop that sorts as one function.
        return gen_xla_ops.xla_sort(tf.stack([end, index]))[0] < end
    return index < end


@contextlib.contextmanager
def products() -> Iterator[None]:
    """Lets dense layers that are called meanwhile multiply as is fast within one function, where there is one."""
    if _kind.get() != "function":
        yield
        return

    def multiply(matmul: Multiply, x1: Any, x2: Any) -> Any:
        x1, x2 = keras.ops.convert_to_tensor(x1), keras.ops.convert_to_tensor(x2)
        known = all(x.dtype == tf.float32 and x.shape.rank == 2 and x.shape.is_fully_defined() for x in (x1, x2))
        # One column is a sum of products, which XLA does well.
        return _product(x1, x2) if known and x2.shape[1] > 1 else matmul(x1, x2)

    with multiplying(multiply):
        yield


@tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
def _product(rows: tf.Tensor, kernel: tf.Tensor) -> Any:
    """Returns rows @ kernel, float32; shapes (n, inputs) and (inputs, outputs)."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _multiply(upstream, tf.transpose(kernel)), _outer(rows, upstream)

    return _multiply(rows, kernel), gradient


def _multiply(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    return tf.matmul(left, _padded(right))[:, : right.shape[1]]


def _outer(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Returns the product of the transpose of left and of right."""
    if right.shape[1] % _VECTOR == 0:
        return tf.matmul(left, right, transpose_a=True)
    if left.shape[1] % _VECTOR == 0:
        return tf.transpose(_materialized(tf.matmul(right, left, transpose_a=True)))
    return tf.matmul(left, _padded(_materialized(right)), transpose_a=True)[:, : right.shape[1]]


def _padded(matrix: tf.Tensor) -> tf.Tensor:
    """Returns the matrix with columns of zeros after its own, in rows that fill vector registers."""
    return _materialized(tf.pad(matrix, [[0, 0], [0, -matrix.shape[1] % _VECTOR]]))


def _materialized(tensor: tf.Tensor) -> tf.Tensor:
    # XLA would take a transposition or a padding into the product, whose inner loop then reads across the rows.
    return gen_xla_ops.xla_optimization_barrier([tensor])[0]
