"""What a user passes as x, y and sample_weight, as tensors on the device: checked, in Keras' dtypes, one copy."""

import math
import mmap
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.errors import DataError
from annlib.training.engine.compilation import has_gpu

# Where TensorFlow's kernels expect an array to begin, in bytes.
_ALIGNMENT = 64
Tensors = Any  # a tensor, or a tuple, list or dict of tensors that share their first dimension


def as_dataset(
    x: Any, y: Any = None, sample_weight: Any = None, *, class_weight: Mapping[int, float] | None = None
) -> tuple[Tensors, ...]:
    """Returns (x,), (x, y) or (x, y, sample_weight) as device tensors.

    Args:
        x: array, tensor, DataFrame, or a tuple, list or dict of them; shape (num_samples, ...).
        y: targets, the same kinds, or None, also for one of several outputs.
        sample_weight: one weight a sample, shape (num_samples,), or a structure like y; or None.
        class_weight: weight of each class index; classes that are not named weigh 1. Single output only.

    Returns:
        A tuple of structures of `tf.Tensor`. Floats have Keras' `floatx`, all other dtypes stay (uint8 images stay
        uint8), as in `keras.Model.fit`.

    Raises:
        DataError: not an array, no rows, different numbers of rows, or weights that do not fit.
    """
    if y is None and (sample_weight is not None or class_weight is not None):
        raise DataError("sample_weight and class_weight weigh targets: expected y as well, received y=None. Pass y.")
    if class_weight is not None:
        if sample_weight is not None:
            raise DataError(
                "expected sample_weight or class_weight, received both. Multiply them into one sample_weight."
            )
        sample_weight = _class_weight_to_sample_weight(y, class_weight)
    elif sample_weight is not None and keras.tree.is_nested(y) and not keras.tree.is_nested(sample_weight):
        # Keras weighs every output with the same weights when there is one array for several outputs.
        weight = sample_weight
        sample_weight = keras.tree.map_structure(lambda _: weight, y)
    parts = [_convert(name, part) for name, part in (("x", x), ("y", y), ("sample_weight", sample_weight))]
    _check_lengths(parts)
    return tuple(part for part in parts if part is not None)


def with_texts(model: keras.Model, x: Any) -> Any:
    """Returns x with its texts as tensors, where the model looks texts up, as those of tables do."""
    inputs = keras.tree.flatten(getattr(model, "inputs", None) or [])
    if not any(tensor.dtype == "string" for tensor in inputs):
        return x
    return keras.tree.map_structure(_text_as_tensor, x)


def map_tensors(function: Callable[[tf.Tensor], Any], data: Any) -> Any:
    """Returns the structure of what a function gives for each tensor; None, for an output without a loss, stays."""
    return keras.tree.map_structure(lambda leaf: None if leaf is None else function(leaf), data)


def as_keras(batch: tuple[Tensors, ...]) -> Any:
    """Returns a batch as the steps of a Keras model take it: x alone where there are no targets."""
    return keras.utils.pack_x_y_sample_weight(*batch)


def num_rows(data: tuple[Tensors, ...]) -> int:
    """Returns the number of samples of what `as_dataset` returned."""
    return int(keras.tree.flatten(data)[0].shape[0])


def types_of_rows(data: tuple[Tensors, ...]) -> tuple[Tensors, ...]:
    """Returns the specification of each tensor of what `as_dataset` returned, for any number of samples."""
    specs: tuple[Tensors, ...] = map_tensors(
        lambda tensor: tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype), data
    )
    return specs


def split_off_validation(data: tuple[Tensors, ...], fraction: float) -> tuple[tuple[Tensors, ...], tuple[Tensors, ...]]:
    """Returns (training, validation): the last `fraction` of the rows are for validation, as in Keras."""
    rows = num_rows(data)
    split_at = math.floor(rows * (1.0 - fraction))
    if not 0 < split_at < rows:
        raise DataError(
            f"validation_split={fraction} of {rows} samples leaves one of the two splits empty: expected a fraction "
            "between 0 and 1 that gives each at least one sample. Give more data or another fraction."
        )
    training = map_tensors(lambda t: t[:split_at], data)
    validation = map_tensors(lambda t: t[split_at:], data)
    return training, validation


def _convert(name: str, part: Any) -> Tensors | None:
    if part is None:
        return None
    # Of several outputs, one without a loss has no targets.
    return keras.tree.map_structure(lambda leaf: None if leaf is None and name != "x" else _to_tensor(name, leaf), part)


def _to_tensor(name: str, leaf: Any) -> tf.Tensor:
    if leaf is None or isinstance(leaf, tf.data.Dataset) or not (hasattr(leaf, "shape") or hasattr(leaf, "__array__")):
        raise DataError(
            f"{name} holds a {type(leaf).__name__}: expected NumPy arrays, tensors or pandas tables held in memory. "
            "Convert it first, for example with numpy.asarray; what does not fit into memory comes as StreamedData."
        )
    if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor) or hasattr(leaf, "toarray"):
        raise DataError(
            f"{name} holds a {type(leaf).__name__}: expected arrays or tensors of one shape that hold every value. "
            "Convert it first, for example with .to_tensor(), tf.sparse.to_dense or .toarray()."
        )
    array = leaf if tf.is_tensor(leaf) else _as_array(leaf)
    if not tf.is_tensor(array) and array.dtype.kind not in "biufc" and not _is_ml_float(array):
        raise DataError(
            f"{name} has dtype {array.dtype}: expected numbers. Convert the columns to numbers, or encode categories."
        )
    if len(array.shape) == 0 or array.shape[0] == 0:
        raise DataError(f"{name} has shape {tuple(array.shape)}: expected at least one sample in the first dimension.")
    is_float = keras.backend.is_float_dtype(keras.backend.standardize_dtype(array.dtype))
    floatx = keras.config.floatx()
    if tf.is_tensor(array):
        return tf.cast(array, floatx) if is_float else array
    return _on_device(array.astype(floatx, copy=False) if is_float else array)


def _as_array(leaf: Any) -> np.ndarray[Any, Any]:
    """Returns what a user passes as an array, as Keras: a table of several types as floats, a Series as a column."""
    array = np.asarray(leaf)
    if not (hasattr(leaf, "dtypes") and hasattr(leaf, "to_numpy")):
        return array
    if array.dtype.kind == "O":
        types = leaf.dtypes if leaf.ndim > 1 else [leaf.dtypes]
        if all(getattr(type_, "kind", "O") in "biuf" for type_ in types):
            array = leaf.to_numpy(dtype=keras.config.floatx(), na_value=np.nan)
    return array[:, np.newaxis] if array.ndim == 1 else array


def _on_device(array: np.ndarray[Any, Any]) -> tf.Tensor:
    """Returns a copy on the device; on a CPU, an array in a memory map, which others may have mapped too, as it is."""
    mapped = None if has_gpu() else _in_memory_map(array)
    return tf.convert_to_tensor(array) if mapped is None else tf.experimental.dlpack.from_dlpack(mapped.__dlpack__())


def _in_memory_map(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
    """Returns the array as a writable one, which DLPack asks for, where it lies in a memory map that can be written."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    memory = base.obj if isinstance(base, memoryview) else base
    is_plain = array.flags.c_contiguous and array.dtype.kind in "iuf" and array.dtype.isnative
    if not isinstance(memory, mmap.mmap) or not is_plain or array.ctypes.data % _ALIGNMENT:
        return None
    whole = np.frombuffer(memory, np.uint8)
    if not whole.flags.writeable:
        return None
    offset = array.ctypes.data - whole.ctypes.data
    writable: np.ndarray[Any, Any] = whole[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    return writable


def _check_lengths(parts: list[Tensors | None]) -> None:
    lengths = {
        name: sorted({int(leaf.shape[0]) for leaf in keras.tree.flatten(part) if leaf is not None})
        for name, part in zip(("x", "y", "sample_weight"), parts, strict=True)
        if part is not None
    }
    if len({length for found in lengths.values() for length in found}) > 1:
        raise DataError(
            "expected the same number of samples everywhere, received "
            + ", ".join(f"{name}: {' and '.join(map(str, found))}" for name, found in lengths.items())
            + ". Check the arrays' first dimensions."
        )


def _class_weight_to_sample_weight(y: Any, class_weight: Mapping[int, float]) -> np.ndarray[Any, Any]:
    """Looks up each sample's class, as Keras does: one-hot rows by their largest entry, others by their value."""
    if keras.tree.is_nested(y):
        raise DataError("class_weight works with one output: received several targets. Use sample_weight instead.")
    labels = np.asarray(y)
    if labels.ndim > 1:
        labels = labels.argmax(axis=-1) if labels.shape[-1] != 1 else labels.squeeze(axis=-1)
    classes, inverse = np.unique(np.round(labels).astype(np.int64), return_inverse=True)
    weights = np.array([class_weight.get(int(c), 1.0) for c in classes], dtype=keras.config.floatx())
    return weights[inverse.reshape(labels.shape)]


def _text_as_tensor(leaf: Any) -> Any:
    if tf.is_tensor(leaf) or not hasattr(leaf, "__array__"):
        return leaf
    array = np.asarray(leaf)
    kind = array.dtype.kind
    is_text = kind in "UT" or (kind == "O" and all(isinstance(value, str) for value in array.flat))
    return tf.constant(array.astype(str)) if is_text else leaf


def _is_ml_float(array: np.ndarray[Any, Any]) -> bool:
    """Tells whether the dtype is one that NumPy itself does not have, such as bfloat16."""
    return array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
