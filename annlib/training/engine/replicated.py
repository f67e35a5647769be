"""One step of a model on all replicas of a `tf.distribute.Strategy`, exact for any global batch size.

Each replica computes the gradient of its rows of the global batch, all gradients travel in one packed all-reduce, those
of dense layers as their factors where these are smaller, and every replica applies the same update. The losses of the
replicas are weighted so that their sum is the loss of the global batch; a run with one replica and a run with many
follow the same curve.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from annlib.data.batches import replica_rows
from annlib.errors import ConfigError
from annlib.training.engine import exchange, factors
from annlib.training.engine.arrays import Tensors, num_rows
from annlib.training.engine.batching import common_reduction
from annlib.training.engine.collectives import all_reduce, can_gather, sum_and_gather
from annlib.training.engine.compilation import overrides
from annlib.training.engine.local import take_rows
from annlib.training.engine.optimizers import gradients_already_reduced, inner_optimizers
from annlib.training.engine.options import StepOptions

_DEFAULT_OPTIONS = StepOptions()
# Replicas draw their dropout masks from seeds this far apart, so that they do not repeat each other's.
_SEED_DISTANCE = 1_000_003


class ReplicatedStep:
    """Runs a global batch on all replicas.

    Args:
        model: a Keras model that was created and compiled in a strategy's scope, with all its variables built.
        training: True computes gradients and applies them, False only updates the metrics.
        batch_size: rows of all batches but the last.
        options: of the training.

    Raises:
        ConfigError: the model has a `train_step` or `test_step` of its own, or losses whose reductions cannot be
            put together from the replicas' parts.
    """

    def __init__(
        self, model: keras.Model, *, training: bool, batch_size: int, options: StepOptions = _DEFAULT_OPTIONS
    ) -> None:
        name = "train_step" if training else "test_step"
        if overrides(model, keras.Model, name):
            raise ConfigError(
                f"{type(model).__name__} has a {name} of its own: expected the standard one under a distribution "
                "strategy, where annlib splits the step between the workers. Train it in one process (--num-workers 0)."
            )
        optimizers = inner_optimizers(model.optimizer) if training else []
        if accumulating := [each for each in optimizers if each.gradient_accumulation_steps]:
            raise ConfigError(
                "the optimizer has "
                f"gradient_accumulation_steps={accumulating[0].gradient_accumulation_steps}: expected None under a "
                "distribution strategy, where Keras cannot apply it. Use a larger global batch instead."
            )
        if any(getattr(each, "ema_overwrite_frequency", None) for each in optimizers):
            raise ConfigError(
                "the optimizer has an ema_overwrite_frequency: expected None under a distribution strategy, where "
                "Keras cannot apply it. Leave it out, or train in one process (--num-workers 0)."
            )
        self._model = model
        self._training = training
        self._strategy = model.distribute_strategy
        self._num_replicas = int(self._strategy.num_replicas_in_sync)
        self._reduction = common_reduction(model)
        self._state = model.non_trainable_variables
        self._batch_size = batch_size
        self._options = options if training else _DEFAULT_OPTIONS
        self._exchanges_factors = (
            training
            and options.gradient_accumulation == options.sync_every == 1
            and can_gather(self._strategy)
            and factors.have_same_processor(self._strategy)
        )

    def prepare(self, data: tuple[Tensors, ...]) -> None:
        """Nothing: all state is in the model's variables."""

    def reset(self) -> None:
        """Sets the local part of each metric back to zero, a single one's as Keras does."""
        if self._num_replicas == 1:
            self._model.reset_metrics()
            return
        self._strategy.run(lambda: [v.value.assign(tf.zeros_like(v.value)) for v in self._model.metrics_variables])

    def run(self, data: tuple[Tensors, ...], rows: tf.Tensor | None, start: tf.Tensor, size: int) -> None:
        """Runs the global batch of `size` rows that starts at `start` of the order `rows`."""
        with gradients_already_reduced(self._model.optimizer), _normalized_as_one_batch(self._model):
            state = self._strategy.run(self._replica_step, args=(data, rows, start, size))
        for variable, value in zip(self._state, state, strict=True):
            self._strategy.extended.update(variable.value, lambda v, new: v.assign(new), args=(value,))
        if self._options.sync_every > 1:
            # The last step of an epoch, too, so that all replicas validate and save the same weights.
            step = start // self._batch_size + 1
            is_last = start + size >= num_rows(data)
            tf.cond((step % self._options.sync_every == 0) | is_last, self._synchronize, lambda: False)

    def _synchronize(self) -> bool:
        """Averages what the replicas have learnt, each on its rows."""
        optimizers = [self._model.optimizer, *inner_optimizers(self._model.optimizer)]
        same = [part for each in optimizers for part in (each.iterations, each._learning_rate)]
        slots = [v for v in self._model.optimizer.variables if not any(v is other for other in same)]
        averaged = [
            v for v in self._model.trainable_variables + self._state + slots if tf.as_dtype(v.dtype).is_floating
        ]
        sums = self._strategy.run(lambda: all_reduce([tf.convert_to_tensor(v.value) for v in averaged]))
        for variable, total in zip(averaged, sums, strict=True):
            self._strategy.extended.update(
                variable.value, lambda v, new: v.assign(new / self._num_replicas), args=(total,)
            )
        return True

    def results(self) -> dict[str, Any]:
        """Returns the metrics' values over the rows of all replicas, the same on each of them."""
        variables = self._model.metrics_variables
        sums = self._strategy.run(lambda: all_reduce([v.value.read_value() for v in variables], tf.float64))
        sums = [self._strategy.experimental_local_results(value)[0] for value in sums]
        with keras.StatelessScope(state_mapping=list(zip(variables, sums, strict=True))):
            metrics: dict[str, Any] = self._model.get_metrics_result()
        return metrics

    def _replica_step(
        self, data: tuple[Tensors, ...], rows: tf.Tensor | None, start: tf.Tensor, size: int
    ) -> list[tf.Tensor]:
        replica = int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))
        first, last = replica_rows(size, replica, self._num_replicas)
        own = range(first, last)
        # A replica without a row still takes part in the all-reduce: it works on one row that weighs nothing.
        present = last > first
        first = min(first, size - 1)
        num_own = max(last - first, 1)
        state = [_spread_seed(v, tf.convert_to_tensor(v.value), replica) for v in self._state]
        num_parts = min(self._options.gradient_accumulation, num_own)
        gradients: list[Any] = []
        for number in range(num_parts):
            begin, end = replica_rows(num_own, number, num_parts)
            # One micro-batch is in memory at a time.
            with tf.control_dependencies(exchange.values_of(g for g in gradients if g is not None)):
                batch = take_rows(data, rows, start + first + begin, end - begin)
                weight = self._loss_weight(batch, data, rows, start, size) if present else tf.constant(0.0, tf.float64)
                found, state = self._gradients(batch, state, weight, size, present=present)
            found = [exchange.keep_slices_of_rows(gradient, batch) for gradient in found]
            gradients = found if not gradients else [exchange.add(*pair) for pair in zip(gradients, found, strict=True)]
        if not self._training:
            return [tf.convert_to_tensor(v.value) for v in self._state]
        return self._reduce_and_apply(gradients, state, replica, own, size)

    def _gradients(
        self, batch: tuple[Tensors, ...], state: list[tf.Tensor], weight: tf.Tensor, size: int, *, present: bool
    ) -> tuple[list[Any], list[tf.Tensor]]:
        """Returns the gradients of the batch's part of the loss and the new non-trainable variables."""
        trainable = [tf.convert_to_tensor(v.value) for v in self._model.trainable_variables]
        products = factors.Products(
            self._model,
            num_rows=num_rows(batch),
            size=size if self._exchanges_factors else None,
            is_even=size % self._num_replicas == 0,
        )
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            with products.recorded(tape):
                scope, loss = self._forward(batch, trainable, state, weight, size, present=present)
        if present:
            for variable in self._model.metrics_variables:
                value = scope.get_current_value(variable)
                if value is not None:
                    variable.value.assign(value)
        if not self._training:
            return [], state
        for variable, value in zip(self._model.trainable_variables, trainable, strict=True):
            if scope.get_current_value(variable) is not value:
                raise ConfigError(
                    f"a layer assigns its weight {variable.path} while it is called: expected, under a distribution "
                    "strategy, that the optimizer alone does. Leave the layer out, or train in one process "
                    "(--num-workers 0)."
                )
        return products.gradients(tape, loss, trainable), [scope.get_current_value(v) for v in self._state]

    def _forward(
        self,
        batch: tuple[Tensors, ...],
        trainable: list[tf.Tensor],
        state: list[tf.Tensor],
        weight: tf.Tensor,
        size: int,
        *,
        present: bool,
    ) -> tuple[keras.StatelessScope, tf.Tensor]:
        """Returns the scope that holds all updates, and the loss to differentiate."""
        model = self._model
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        metrics = [v.value.read_value() for v in model.metrics_variables]
        variables = model.trainable_variables + self._state + model.metrics_variables
        mapping = list(zip(variables, trainable + state + metrics, strict=True))
        with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
            y_pred = model(x, training=self._training) if model._call_has_training_arg else model(x)
            loss = model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=self._training)
            loss = loss * tf.cast(self._weight_of_steps(y_pred, weight, present=present), loss.dtype)
            count = keras.tree.flatten(batch)[0].shape[0]
            # The tracker multiplies by the rows and divides by the sum of all rows in the end.
            model._loss_tracker.update_state(loss * (size / count), sample_weight=count)
            logs = model.compute_metrics(x, y, y_pred, sample_weight)
            if lost := set(logs) - set(model.get_metrics_result()):
                raise ConfigError(
                    f"compute_metrics of {type(model).__name__} returns {', '.join(sorted(lost))}, of no metric: "
                    "expected, under a distribution strategy, values of metrics alone, which annlib sums over the "
                    "workers. Keep it in a keras.metrics.Mean, or train in one process (--num-workers 0)."
                )
            if self._training:
                loss = model.optimizer.scale_loss(loss)
        return scope, loss

    def _loss_weight(
        self,
        batch: tuple[Tensors, ...],
        data: tuple[Tensors, ...],
        rows: tf.Tensor | None,
        start: tf.Tensor,
        size: int,
    ) -> tf.Tensor:
        """Returns the factor that makes the sum of the replicas' losses the loss of the global batch.

        Keras has divided the mean over a replica's rows by the number of replicas; here the replicas' means are
        weighted by their shares of what the reduction divides by.
        """
        if self._reduction == "sum":
            return tf.constant(1.0, tf.float64)
        if self._reduction == "mean_with_sample_weight" and len(batch) > 2:
            if len(keras.tree.flatten(batch[2])) > 1:
                raise ConfigError(
                    "several outputs have losses with the reduction mean_with_sample_weight and sample weights: "
                    "expected one output under a distribution strategy or with gradient accumulation, for each output "
                    "divides by weights of its own. Give another reduction, or train in one process (--num-workers 0)."
                )
            weights = keras.tree.flatten(batch[2])[0]
            all_weights = keras.tree.flatten(take_rows(data[2:], rows, start, size))[0]
            weights, all_weights = (tf.cast(tf.reduce_sum(w), tf.float64) for w in (weights, all_weights))
            return self._num_replicas * tf.math.divide_no_nan(weights, all_weights)
        # In float64, so that a float64 model is not limited to float32 by it.
        return tf.constant(self._num_replicas * keras.tree.flatten(batch)[0].shape[0] / size, tf.float64)

    def _weight_of_steps(self, y_pred: Any, weight: tf.Tensor, *, present: bool) -> tf.Tensor:
        """Returns the factor of the loss, where outputs have a mask: by the time steps that count, not by the rows."""
        outputs = keras.tree.flatten(y_pred)
        masks = [mask for mask in (getattr(output, "_keras_mask", None) for output in outputs) if mask is not None]
        # A replica that steps alone takes its own mean, whatever it is a share of.
        if not masks or self._reduction == "sum" or self._options.sync_every > 1:
            return weight
        if len(outputs) > 1 or self._reduction != "mean" or self._options.gradient_accumulation > 1:
            raise ConfigError(
                "the model's outputs have a mask: expected, under a distribution strategy or with gradient "
                f"accumulation, one output and one micro-batch, received {len(outputs)} outputs, the reduction "
                f"{self._reduction} and {self._options.gradient_accumulation} micro-batches. Give the losses "
                '`reduction="sum"`, or train in one process (--num-workers 0).'
            )
        own = tf.reduce_sum(tf.cast(masks[0], tf.float64)) * float(present)
        (total,) = all_reduce([own])
        return self._num_replicas * tf.math.divide_no_nan(own, total)

    def _reduce_and_apply(
        self, gradients: list[Any], updates: list[tf.Tensor], replica: int, own: range, size: int
    ) -> list[tf.Tensor]:
        """Applies the global gradient; returns the new values of the non-trainable variables."""
        model = self._model
        share = len(own) / size
        trained = [i for i, gradient in enumerate(gradients) if gradient is not None]
        gradients = [gradients[i] for i in trained]
        averaged = [i for i, v in enumerate(self._state) if tf.as_dtype(v.dtype).is_floating]
        # Statistics, such as those of batch normalisation, are averaged over the samples.
        statistics = [updates[i] * tf.cast(share, updates[i].dtype) for i in averaged]
        if self._options.sync_every > 1:
            # The gradient of this replica's own mean loss; `_synchronize` averages the rest.
            applied = [exchange.scale(gradient, 1 / max(share, 1 / self._batch_size)) for gradient in gradients]
            statistics = [updates[i] for i in averaged]
        else:
            placed = [exchange.place(gradient, own, size) for gradient in gradients]
            values, exact = exchange.values_of(placed), statistics + exchange.indices_of(placed)
            rows = exchange.rows_of(placed)
            if self._options.compression == "none":
                reduced, rows = sum_and_gather(values + exact, rows, size)
                values, exact = reduced[: len(values)], reduced[len(values) :]
            else:
                values = all_reduce(values, tf.as_dtype(self._options.compression))
                exact, rows = sum_and_gather(exact, rows, size)
            applied = exchange.put_together(placed, values, exact[len(statistics) :], rows)
            statistics = exact[: len(statistics)]
        model.optimizer.apply(applied, [model.trainable_variables[i] for i in trained])
        for i, value in zip(averaged, statistics, strict=True):
            updates[i] = value
        return [_spread_seed(v, new, -replica) for v, new in zip(self._state, updates, strict=True)]


@contextlib.contextmanager
def _normalized_as_one_batch(model: keras.Model) -> Iterator[None]:
    """Lets batch normalisation use the statistics of the global batch, as one process does."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    before = [layer.synchronized for layer in layers]
    for layer in layers:
        layer.synchronized = True
    try:
        yield
    finally:
        for layer, synchronized in zip(layers, before, strict=True):
            layer.synchronized = synchronized


def _spread_seed(variable: keras.Variable, value: tf.Tensor, replica: int) -> tf.Tensor:
    """Moves the state of a seed generator to the replica's own; other variables stay."""
    if not variable.path.endswith("seed_generator_state"):
        return value
    return value + tf.constant([replica * _SEED_DISTANCE, 0], dtype=value.dtype)
