import keras
import numpy as np
import pytest

from annlib.errors import ConfigError, DataError
from annlib.models.activations import ACTIVATIONS, numeric_derivative, relu, sigmoid, softplus, step, tanh

KERAS = {
    "step": lambda z: keras.ops.heaviside(z, keras.ops.ones_like(z)),
    "sigmoid": keras.activations.sigmoid,
    "tanh": keras.activations.tanh,
    "relu": keras.activations.relu,
    "softplus": keras.activations.softplus,
}

# By hand, for z away from the kinks.
DERIVATIVES = {
    "step": lambda z: 0 * z,
    "sigmoid": lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    "tanh": lambda z: 1 / np.cosh(z) ** 2,
    "relu": lambda z: (z > 0) * 1.0,
    "softplus": lambda z: 1 / (1 + np.exp(-z)),
}

every_activation = pytest.mark.parametrize("name", ACTIVATIONS)


def test_order_is_the_chapters():
    assert list(ACTIVATIONS.items()) == [
        ("step", step),
        ("sigmoid", sigmoid),
        ("tanh", tanh),
        ("relu", relu),
        ("softplus", softplus),
    ]


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_equal_those_of_keras(name, dtype):
    z = np.concatenate([np.linspace(-20, 20, 4001), [-1e4, -90, -1e-3, 0, 1e-3, 90, 1e4]]).astype(dtype)
    theirs = keras.ops.convert_to_numpy(KERAS[name](keras.ops.convert_to_tensor(z, dtype=z.dtype.name)))
    # 1e-45 is the smallest float32: some kernels give 0 for anything below 1e-38.
    absolute = 1.2e-38 if dtype is np.float32 else 2.3e-308
    np.testing.assert_allclose(ACTIVATIONS[name](z), theirs, rtol=8 * np.finfo(dtype).eps, atol=absolute, strict=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step", [0, 1, 1]),
        ("sigmoid", [0.25, 0.5, 0.75]),
        ("tanh", [-0.8, 0, 0.8]),
        ("relu", [0, 0, np.log(3)]),
        ("softplus", [np.log(4 / 3), np.log(2), np.log(4)]),
    ],
)
def test_values_at_the_logarithm_of_three_are_those_of_a_hand_computation(name, expected):
    np.testing.assert_allclose(ACTIVATIONS[name]([-np.log(3), 0, np.log(3)]), expected, rtol=1e-15, atol=0)


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_arguments_neither_overflow_nor_warn(name, dtype):
    limits = {"step": [0, 1], "sigmoid": [0, 1], "tanh": [-1, 1], "relu": [0, 1e4], "softplus": [0, 1e4]}
    with np.errstate(all="raise"):
        values = ACTIVATIONS[name](np.array([-1e4, 1e4], dtype))
    np.testing.assert_array_equal(values, np.array(limits[name], dtype), strict=True)


@every_activation
def test_integers_and_booleans_are_computed_in_float64(name):
    for z in ([-2, 0, 3], np.array([-2, 0, 3], np.int8), np.array([False, True])):
        expected = ACTIVATIONS[name](np.asarray(z, np.float64))
        np.testing.assert_array_equal(ACTIVATIONS[name](z), expected, strict=True)


@every_activation
def test_shape_is_kept_and_the_argument_is_not_changed(name):
    for shape in ((), (0,), (2, 3, 1)):
        z = np.full(shape, -0.5, np.float32)
        assert ACTIVATIONS[name](z).shape == shape
        np.testing.assert_array_equal(z, np.full(shape, -0.5))


@every_activation
def test_nan_stays_nan(name):
    assert np.isnan(ACTIVATIONS[name](np.array([np.nan]))).all()


@every_activation
def test_text_is_refused(name):
    with pytest.raises(DataError, match=r"z is not numeric; expected numbers; received dtype <U1; convert it first"):
        ACTIVATIONS[name](np.array(["a"]))


@every_activation
def test_numeric_derivative_equals_the_derivative_by_hand(name):
    z = np.linspace(-6, 6, 500)  # an even number, so that no point is at 0
    np.testing.assert_allclose(numeric_derivative(ACTIVATIONS[name], z), DERIVATIVES[name](z), rtol=0, atol=2e-9)


def test_numeric_derivative_is_the_central_difference():
    # Of z³ it is 3z² + ε², and ε = 1/2 makes all of it exact.
    values = numeric_derivative(lambda z: z**3, np.array([0.0, 1.0, -2.0]), epsilon=0.5)
    np.testing.assert_array_equal(values, [0.25, 3.25, 12.25])


def test_numeric_derivative_of_float32_is_computed_in_float64():
    values = numeric_derivative(tanh, np.array([100.0, 0.5], np.float32))
    np.testing.assert_allclose(values, [0, 1 / np.cosh(0.5) ** 2], rtol=1e-9, strict=True)


def test_numeric_derivative_shows_the_jump_of_the_step():
    np.testing.assert_array_equal(numeric_derivative(step, [0.0], epsilon=0.125), [4.0])


@pytest.mark.parametrize("epsilon", [0, -1e-3, np.nan, np.inf])
def test_numeric_derivative_refuses_an_epsilon_that_is_not_positive(epsilon):
    with pytest.raises(ConfigError, match=f"expected a number above 0; received {epsilon}; use 1e-6"):
        numeric_derivative(tanh, 0.0, epsilon=epsilon)
