import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from annlib.training.engine import factors
from annlib.training.engine.factors import Factors, Products

ROWS = 4
X = np.random.default_rng(0).normal(size=(ROWS, 40)).astype(np.float32)


def gradients(model: keras.Model, **arguments: Any) -> list[type]:
    """Returns the kinds of gradients that `Products` gives in a graph, whose values are those of the tape alone."""
    kinds: list[type] = []

    def compute(*, recorded: bool) -> list[tf.Tensor]:
        given = {"num_rows": ROWS, "size": 2 * ROWS, "is_even": True} | arguments
        products = Products(model, **given)
        values = [tf.convert_to_tensor(variable) for variable in model.trainable_variables]
        mapping = list(zip(model.trainable_variables, values, strict=True))
        with tf.GradientTape() as tape:
            tape.watch(values)
            with (
                keras.StatelessScope(state_mapping=mapping),
                products.recorded(tape) if recorded else contextlib.nullcontext(),
            ):
                loss = tf.reduce_sum(tf.cast(model(X), tf.float32) ** 2) + tf.add_n([tf.constant(0.0), *model.losses])
        found = products.gradients(tape, loss, values) if recorded else tape.gradient(loss, values)
        kinds[:] = [type(each) for each in found]
        return [each.product() if isinstance(each, Factors) else each for each in found]

    expected = tf.function(lambda: compute(recorded=False), autograph=False)()
    ours = tf.function(lambda: compute(recorded=True), autograph=False)()
    for one, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    return kinds


def sequential(*hidden: layers.Layer) -> keras.Model:
    return keras.Sequential([keras.Input((40,)), *hidden])


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = layers.Dense(40)

    def call(self, x: Any) -> Any:
        return self.hidden(x)


class InLoop(layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.inner = layers.Dense(40)

    def build(self, input_shape: Any) -> None:
        self.inner.build(input_shape)

    def call(self, x: Any) -> Any:
        return keras.ops.fori_loop(0, 2, lambda _, value: self.inner(value), x)


shared = layers.Dense(40, use_bias=False)


@pytest.mark.parametrize(
    ("model", "has_factors"),
    [
        (lambda: sequential(layers.Dense(40, use_bias=False)), [True]),
        (lambda: sequential(layers.Dense(40, "tanh", use_bias=False), layers.Dense(3, use_bias=False)), [True, False]),
        (lambda: sequential(shared, shared), [False]),
        (lambda: sequential(layers.Dense(40, kernel_regularizer="l2", use_bias=False)), [False]),
        (lambda: sequential(layers.Dense(40, dtype="mixed_bfloat16", use_bias=False)), [False]),
        (lambda: sequential(layers.Reshape((2, 20)), layers.Dense(40, use_bias=False)), [False]),
        (lambda: sequential(InLoop()), [False, False]),
    ],
    ids=["one", "few-outputs", "shared", "regularized", "bfloat16", "three-axes", "loop"],
)
def test_gradients_of_one_product_are_factors(model: Callable[[], keras.Model], has_factors: list[bool]) -> None:
    assert [kind is Factors for kind in gradients(model())] == has_factors


@pytest.mark.parametrize("arguments", [{"size": None}, {"size": 200}, {"num_rows": 5}])
def test_gradients_stay_tensors_where_factors_are_not_smaller_or_not_of_the_rows(arguments: dict[str, Any]) -> None:
    kinds = gradients(sequential(layers.Dense(40, use_bias=False)), **arguments)
    assert Factors not in kinds


@pytest.mark.parametrize(
    ("kernel", "num_rows", "expected"),
    [
        ((784, 300), 216, True),
        ((784, 300), 217, False),
        ((4096, 4096), 256, True),
        ((4096, 4096), 257, False),
        ((4096, 1), 1, False),
        ((3, 3, 64, 64), 1, False),
    ],
)
def test_factors_are_exchanged_for_large_kernels_and_few_rows(
    kernel: tuple[int, ...], num_rows: int, expected: bool
) -> None:
    assert factors.are_smaller(kernel, num_rows) is expected


def test_replicas_with_different_numbers_of_rows_know_the_rows_from_the_model() -> None:
    assert Factors in gradients(sequential(layers.Dense(40)), is_even=False)
    model = Subclassed()
    model(X)
    assert Factors in gradients(model)
    assert Factors not in gradients(model, is_even=False)


@pytest.mark.parametrize(("others", "same"), [(1, True), (0, False)])
def test_workers_compare_their_processors(monkeypatch: pytest.MonkeyPatch, others: int, same: bool) -> None:
    class Strategy:
        num_replicas_in_sync = 2

    def add_another(_: Any, counts: list[float]) -> list[float]:
        assert sum(counts) == 1
        return [count * (1 + others) for count in counts]

    monkeypatch.setattr(factors, "sum_over_replicas", add_another)
    assert factors.have_same_processor(Strategy()) is same
