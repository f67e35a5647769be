"""The optimizers by name, against their formulas and Keras' classes."""

import keras
import numpy as np
import pytest

from annlib.config import OPTIMIZERS
from annlib.models.optimizers import make_optimizer


def path(optimizer: keras.optimizers.Optimizer, steps: int) -> list[float]:
    """Minimises x² / 2 from x = 1, where the gradient is x."""
    x = keras.Variable(1.0)
    found = []
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(x)], [x])
        found.append(float(x))
    return found


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_follows_its_formula(nesterov: bool) -> None:
    # Equation 11-4 of the book, and Nesterov's with the gradient at the point itself, as Keras has it.
    x, velocity, expected = 1.0, 0.0, []
    for _ in range(5):
        gradient = x
        velocity = 0.9 * velocity - 0.1 * gradient
        x += 0.9 * velocity - 0.1 * gradient if nesterov else velocity
        expected.append(x)
    name = "nesterov" if nesterov else "momentum"
    np.testing.assert_allclose(path(make_optimizer(name, 0.1), 5), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("sgd", keras.optimizers.SGD),
        ("adagrad", keras.optimizers.Adagrad),
        ("rmsprop", keras.optimizers.RMSprop),
        ("adam", keras.optimizers.Adam),
        ("adamax", keras.optimizers.Adamax),
        ("nadam", keras.optimizers.Nadam),
        ("adamw", keras.optimizers.AdamW),
    ],
)
def test_the_others_are_kerass_with_its_defaults(name: str, reference: type[keras.optimizers.Optimizer]) -> None:
    optimizer = make_optimizer(name, 0.05)
    assert type(optimizer) is reference
    assert path(optimizer, 3) == pytest.approx(path(reference(0.05), 3))


def test_every_optimizer_of_the_configuration_can_be_made() -> None:
    rates = [float(make_optimizer(name, 0.25).learning_rate) for name in OPTIMIZERS]
    assert rates == [0.25] * 9
