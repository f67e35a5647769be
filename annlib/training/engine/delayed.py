"""Several steps of plain SGD for which the products of the first layer are computed at once.

The inputs X_0, X_1, ... of a first dense layer in the coming steps are known before these run. Step j needs the product
Z_j = X_j W_j, and subtracts r_j X_j^T D_j from the kernel, where r_j is the learning rate and D_j the gradient of Z_j.
It follows that

    Z_j = X_j W_0 - sum_{i<j} r_i (X_j X_i^T) D_i    and    W_k = W_0 - sum_{i<k} r_i X_i^T D_i.

So k steps need one product with W_0 and one for W_k, each with k times the rows of a batch, which a processor computes
nearer to its peak than k small ones, and W passes through the caches once instead of k times. The products X_j X_i^T
come in addition. Known as delayed updates: McDaniel et al., Delayed Slater determinant update algorithms for high
efficiency quantum Monte Carlo, J. Chem. Phys. 147, 174107, 2017. The results are those of single steps, but for
rounding.
"""

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.src.models.functional import Functional

from annlib.training.engine.batching import is_known, losses_of
from annlib.training.engine.compilation import overrides
from annlib.training.engine.products import Multiply, multiplying

logger = logging.getLogger(__name__)

# Rows of all steps together, from which on a product is computed near to the peak; more steps take long to compile.
_ROWS, _MAX_STEPS = 160, 5
# With smaller kernels the additional products cost more than they save.
_MIN_INPUTS, _MIN_UNITS, _MIN_SIZE = 256, 96, 2**16
# Several steps take 1.2 s longer to trace and compile, and save 0.5 ns an element of the kernel and step.
_BREAK_EVEN = 2.4e9

# Layers that do the same with a row whatever the others are, and have nothing that is trained.
_ROW_BY_ROW = (keras.layers.InputLayer, keras.layers.Flatten, keras.layers.Reshape, keras.layers.Rescaling)


def _first_layer(model: keras.Model) -> keras.layers.Dense | None:
    """Returns the dense layer of a built, compiled model whose updates can wait, where they are worth it."""
    if type(model) not in (keras.Sequential, Functional) or len(model.inputs) != 1:
        return None
    if not _is_plain_sgd(model.optimizer) or not _is_of_keras(model):
        return None
    layer = next((layer for layer in model.layers if type(layer) is keras.layers.Dense), None)
    return layer if layer is not None and _can_wait(layer, model) else None


def _is_plain_sgd(optimizer: Any) -> bool:
    """Tells whether an update is the gradient times the learning rate, and nothing else."""
    return (
        type(optimizer) is keras.optimizers.SGD
        and not (optimizer.momentum or optimizer.weight_decay or optimizer.use_ema)
        and optimizer.clipnorm is optimizer.clipvalue is optimizer.global_clipnorm is None
        and optimizer.gradient_accumulation_steps is optimizer.loss_scale_factor is None
    )


def _is_of_keras(model: keras.Model) -> bool:
    """Tells whether nothing but a layer itself can use its kernel, such as a user's own loss."""
    layers = [operation for each in model._flatten_layers() for operation in getattr(each, "operations", [each])]
    return (
        not overrides(model, keras.Model, "train_step", "compute_loss")
        and all(is_known(part) and not isinstance(part, keras.layers.Lambda) for part in layers)
        and all(is_known(loss) for loss in losses_of(model))
    )


def _can_wait(layer: keras.layers.Dense, model: keras.Model) -> bool:
    if layer.quantization_mode is not None or layer.lora_enabled or len(_calls(layer, model)) != 1:
        return False
    inputs, units = layer.kernel.shape
    return (
        inputs >= _MIN_INPUTS
        and units >= _MIN_UNITS
        and inputs * units >= _MIN_SIZE
        and len(_calls(layer, model)[0].shape) == 2
        and _calls(layer, model)[0].dtype == layer.dtype_policy.name == "float32"
        and layer.kernel.regularizer is layer.kernel.constraint is None
        and any(layer.kernel is variable for variable in model.trainable_variables)
        # Keras asks for at least one gradient.
        and len(model.trainable_variables) > 1
        # Operations such as sums over the rows are no layers.
        and all(type(operation) in _ROW_BY_ROW for operation in _before(layer, model).operations)
    )


def _calls(layer: keras.layers.Dense, model: keras.Model) -> list[Any]:
    """Returns the symbolic inputs that a model calls its layer with."""
    nodes = [node for at_depth in _functional(model)._nodes_by_depth.values() for node in at_depth]
    return [node.input_tensors[0] for node in nodes if node.operation is layer]


def _before(layer: keras.layers.Dense, model: keras.Model) -> Functional:
    """Returns the part of a model that computes the inputs of its layer."""
    return keras.Model(_functional(model).inputs[0], _calls(layer, model)[0])


def _functional(model: keras.Model) -> Functional:
    return model._functional if type(model) is keras.Sequential else model


def steps_at_once(model: keras.Model, batch_size: int, num_steps: int) -> int:
    """Returns for how many steps the updates of a model's first layer should wait; 1 where they should not.

    Args:
        model: a built, compiled Keras model.
        batch_size: rows of a batch.
        num_steps: steps to run in all.
    """
    layer = _first_layer(model)
    if layer is None or num_steps * math.prod(layer.kernel.shape) < _BREAK_EVEN:
        return 1
    at_once = min(max(1, _ROWS // batch_size), _MAX_STEPS)
    logger.info("%s: the products of the layer %s are those of %d steps at once", model.name, layer.name, at_once)
    return at_once


class Delayed:
    """Runs several steps of a model whose first layer can wait.

    Args:
        model: a built, compiled Keras model.
        batch_size: rows of a batch.
        num_steps: how many steps to run at once, 2 or more.
    """

    def __init__(self, model: keras.Model, *, batch_size: int, num_steps: int) -> None:
        layer = _first_layer(model)
        assert layer is not None
        self._optimizer = model.optimizer
        self._kernel = layer.kernel
        self._inputs = _before(layer, model)
        self._batch_size = batch_size
        self.num_steps = num_steps

    def run(self, x: Any, run_step: Callable[[int], Any]) -> None:
        """Runs the steps.

        Args:
            x: what the model takes, of all rows of the steps.
            run_step: trains on the batch of a number, from 0 on.
        """
        inputs = self._inputs(x)
        products = tf.split(tf.matmul(inputs, tf.convert_to_tensor(self._kernel)), self.num_steps)
        # Of all steps but the first with those of all but the last.
        of_rows = tf.matmul(inputs[self._batch_size :], inputs[: -self._batch_size], transpose_b=True)
        of_rows = [None, *tf.split(of_rows, self.num_steps - 1)]
        changes: list[tf.Tensor] = []
        for number, product in enumerate(products):
            if changes:
                product += tf.matmul(of_rows[number][:, : number * self._batch_size], tf.concat(changes, axis=0))
            with multiplying(self._multiply(product, changes)), warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Gradients do not exist for variables")
                run_step(number)
            if len(changes) == number:
                changes.append(tf.zeros_like(product))  # the loss does not depend on it
        self._kernel.assign_add(tf.matmul(inputs, tf.concat(changes, axis=0), transpose_a=True))

    def _multiply(self, product: tf.Tensor, changes: list[tf.Tensor]) -> Callable[[Multiply, Any, Any], Any]:
        """Returns what gives the product in place of that with the kernel, which gets no gradient then."""

        @tf.custom_gradient  # type: ignore[untyped-decorator]  # TensorFlow has no types
        def take(_: tf.Tensor) -> Any:
            def gradient(upstream: tf.Tensor) -> None:
                changes.append(-tf.cast(self._optimizer._get_current_learning_rate(), upstream.dtype) * upstream)

            return tf.identity(product), gradient

        def multiply(matmul: Multiply, x1: Any, x2: Any) -> Any:
            return take(tf.convert_to_tensor(x2)) if x2 is self._kernel else matmul(x1, x2)

        return multiply
