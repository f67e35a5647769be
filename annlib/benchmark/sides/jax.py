"""JAX: a `lax.scan` over the batches of an epoch, all of it in one `jit`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from annlib.benchmark.cases import BATCH_SIZE, Case, Examples, Weights
from annlib.data.batches import epoch_order

Parameters = list[tuple[Any, Any]]


class Trainer:
    """Trains on arrays that stay on the device; waits for the device once, at the end of all epochs."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        self._parameters: Parameters = jax.device_put(weights)
        labels = train.y.astype("int32" if case.num_classes else "float32")
        self._data = jax.device_put((train.flat_x, labels))
        self._num_rows = len(train.y)
        loss = _cross_entropy if case.num_classes else _squared_error
        epoch = functools.partial(_epoch, loss, case.learning_rate)
        self._epoch = jax.jit(epoch, donate_argnums=0)

    def train(self, epochs: int) -> float:
        """Trains on; returns the loss of the last epoch."""
        for epoch in range(epochs):
            rows = epoch_order(self._num_rows, seed=0, epoch=epoch)
            self._parameters, loss = self._epoch(self._parameters, self._data, rows)
        return float(loss)


def _epoch(loss: Any, learning_rate: float, parameters: Parameters, data: Any, rows: Any) -> tuple[Parameters, Any]:
    x, y = data
    num_full, tail = divmod(len(rows), BATCH_SIZE)

    def step(parameters: Parameters, batch: Any) -> tuple[Parameters, Any]:
        value, gradients = jax.value_and_grad(loss)(parameters, [part[batch] for part in x], y[batch])
        return jax.tree.map(lambda p, g: p - learning_rate * g, parameters, gradients), value

    batches = rows[: num_full * BATCH_SIZE].reshape(num_full, BATCH_SIZE)
    parameters, losses = jax.lax.scan(step, parameters, batches)
    total = losses.sum() * BATCH_SIZE
    if tail:
        parameters, value = step(parameters, rows[num_full * BATCH_SIZE :])
        total += value * tail
    return parameters, total / len(rows)


def _outputs(parameters: Parameters, x: list[Any]) -> Any:
    hidden = x[-1]
    for kernel, bias in parameters[:-1]:
        hidden = jax.nn.relu(hidden @ kernel + bias)
    kernel, bias = parameters[-1]
    return jnp.concatenate([*x[:-1], hidden], axis=1) @ kernel + bias


def _squared_error(parameters: Parameters, x: list[Any], y: Any) -> Any:
    return jnp.mean((_outputs(parameters, x)[:, 0] - y) ** 2)


def _cross_entropy(parameters: Parameters, x: list[Any], y: Any) -> Any:
    logits = jax.nn.log_softmax(_outputs(parameters, x))
    return -jnp.mean(jnp.take_along_axis(logits, y[:, None], axis=1))
