"""How an epoch is compiled: by XLA where that is faster, as a plain graph where it is not."""

import contextlib
import dataclasses
import logging
from collections.abc import Callable
from typing import Any, Literal

import keras
import tensorflow as tf

from annlib import compilation_cache
from annlib.training.engine import small_loops, xla_options

logger = logging.getLogger(__name__)

# XLA compiles a small MLP in 0.3 to 1 s more than the plain graph needs for tracing, and then saves 0.05 ms (8-30-1)
# to 0.4 ms (784-300-100-10) a step on a CPU core: below about this many steps the compilation costs more than it gains.
XLA_BREAK_EVEN_STEPS = 2500

# The library by which XLA multiplies otherwise: it is faster for single steps, and slower for several at once.
_NO_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type="

# Functions that one program keeps, for data of as many shapes: the graph of a small model takes 5 MB.
SIGNATURES_KEPT = 4

# XLA's CPU code for these is slower than the kernels of the plain graph.
_SLOW_IN_XLA_ON_CPU = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
    keras.layers.RNN,
    keras.layers.Bidirectional,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compilation:
    """How to run the steps of one model, and why."""

    mode: Literal["xla", "graph", "eager"]
    reason: str
    loops: small_loops.LoopKind = "graph"
    # Those for which the first layer's products are computed together.
    steps_at_once: int = 1

    @property
    def xla_options(self) -> list[str]:
        """What XLA has to be told before it compiles for the first time."""
        options = [] if self.loops == "graph" else [small_loops.XLA_OPTION]
        return options if self.steps_at_once == 1 else [*options, _NO_YNNPACK]


def choose_compilation(model: keras.Model, *, batch_size: int, num_steps: int) -> Compilation:
    """Decides how the steps of a model run.

    Args:
        model: a built, compiled Keras model.
        batch_size: rows of a batch.
        num_steps: steps that the caller expects to run in all.

    Returns:
        The mode, its reason and the kind of the loops; the decision is logged.
    """
    choice = _choose(model, batch_size, num_steps)
    logger.info("%s: steps run as %s (%s)", model.name, choice.mode, choice.reason)
    return choice


def _choose(model: keras.Model, batch_size: int, num_steps: int) -> Compilation:
    if model.run_eagerly:
        return Compilation(mode="eager", reason="the model was compiled with run_eagerly=True")
    if is_distributed(model):
        return Compilation(mode="graph", reason="collectives between replicas do not run inside XLA on a CPU")
    layers = model._flatten_layers()
    unsupported = [layer.name for layer in layers if not layer.supports_jit]
    if unsupported:
        return Compilation(mode="graph", reason=f"XLA cannot compile layer {unsupported[0]!r}")
    slow = [layer.name for layer in layers if isinstance(layer, _SLOW_IN_XLA_ON_CPU)]
    if slow and not has_gpu():
        return Compilation(mode="graph", reason=f"XLA is slower for layer {slow[0]!r} on a CPU")
    if num_steps < XLA_BREAK_EVEN_STEPS:
        return Compilation(
            mode="graph", reason=f"{num_steps} steps do not repay XLA's compilation, {XLA_BREAK_EVEN_STEPS} do"
        )
    loops = _kind_of_loops(model, batch_size, num_steps)
    reason = f"{num_steps} steps repay XLA's compilation"
    if loops == "function":
        reason += ", a loop of small layers is one function"
    return Compilation(mode="xla", reason=reason, loops=loops)


def _kind_of_loops(model: keras.Model, batch_size: int, num_steps: int) -> small_loops.LoopKind:
    if has_gpu():
        return "graph"
    if overrides(model, keras.Model, "train_step", "test_step", "compute_loss"):
        return "calls"
    return "function" if small_loops.is_small(model, batch_size=batch_size, num_steps=num_steps) else "calls"


class Recent:
    """Keeps what was made for the keys that were asked for last, and lets go of the rest.

    Args:
        size: how many to keep, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Returns what is kept for the key, or makes it."""
        value = self._kept.pop(key) if key in self._kept else make()
        self._kept[key] = value
        while len(self._kept) > self._size:
            del self._kept[next(iter(self._kept))]
        return value


class Compiled:
    """A function as XLA or a plain graph runs it, or Python."""

    def __init__(self, function: Callable[..., tf.Tensor], compilation: Compilation) -> None:
        self._function = function
        self._compilation = compilation
        self._traced = Recent(SIGNATURES_KEPT)
        self.variables: list[tf.Tensor] = []  # their handles, of what was traced last

    def for_types(self, *arguments: Any) -> Callable[..., tf.Tensor]:
        """Returns the function for arguments of these types, which are tensors or specifications of tensors.

        TensorFlow would look it up on every call, which takes longer than a hundred steps of a small model.
        """
        if self._compilation.mode == "eager":
            return self._function
        types = keras.tree.map_structure(lambda t: None if t is None else tf.TensorSpec(t.shape, t.dtype), arguments)
        found: Callable[..., tf.Tensor] = self._traced.get(repr(types), lambda: self._trace(types))
        return found

    def _trace(self, types: Any) -> Callable[..., tf.Tensor]:
        function = self._concrete(types)
        has_run = False

        def call(*values: Any) -> tf.Tensor:
            nonlocal function, has_run
            try:
                with contextlib.nullcontext() if has_run else xla_options.compiling(self._compilation.xla_options):
                    result = function(*values)
            except tf.errors.OpError as error:
                if has_run or self._compilation.mode == "graph":
                    raise
                # XLA compiles before any step runs, and writes the variables after the last one, so that starting over
                # as a plain graph is safe.
                reason = str(error).splitlines()[0]
                logger.warning("XLA does not run this model, the plain graph takes over: %s", reason)
                if "unsupported operations" not in reason:
                    # What is wrong may be a file of compiled functions; which one, nobody says.
                    compilation_cache.clear()
                self._compilation = Compilation(mode="graph", reason=reason)
                function = self._concrete(types)
                result = function(*values)
            has_run = True
            return result

        return call

    def _concrete(self, types: Any) -> Any:
        # A `tf.function` of its own: one for all of them would keep each of their graphs.
        function = tf.function(self._function, jit_compile=self._compilation.mode == "xla" or None, autograph=False)
        with small_loops.tracing(self._compilation.loops):
            concrete = function.get_concrete_function(*types)
        resources = [tensor for tensor in concrete.graph.external_captures if tensor.dtype == tf.resource]
        # Of the others, such as tables of texts, no values' types are known.
        self.variables = [tensor for tensor in resources if tensor._handle_data and tensor._handle_data.is_set]
        return concrete


def has_gpu() -> bool:
    """Tells whether TensorFlow works on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def overrides(instance: Any, base: type, *names: str) -> bool:
    """Tells whether one of these methods is not that of Keras' class, be it of a subclass or put on the instance."""
    return any(getattr(getattr(instance, name), "__func__", None) is not getattr(base, name) for name in names)


def is_distributed(model: keras.Model) -> bool:
    """Tells whether the model was created in the scope of a `tf.distribute.Strategy`."""
    return not isinstance(model.distribute_strategy, type(_DEFAULT_STRATEGY))


_DEFAULT_STRATEGY = tf.distribute.get_strategy()
