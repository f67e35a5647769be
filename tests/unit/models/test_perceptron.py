"""The perceptron's rule by hand, against scikit-learn, and on what it can and cannot learn."""

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from scipy.optimize import linprog
from sklearn.datasets import load_iris, make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Perceptron as SklearnPerceptron
from sklearn.utils.estimator_checks import parametrize_with_checks

import annlib
from annlib.models.neurons import xor
from annlib.models.perceptron import Perceptron

XOR_X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
XOR_Y = np.array([0, 1, 1, 0])


@parametrize_with_checks([Perceptron(), Perceptron(tol=None, max_iter=20, shuffle=False)])
def test_it_is_a_scikit_learn_estimator(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


def test_one_epoch_is_the_rule_by_hand() -> None:
    x = np.array([[1.0, 2.0], [2.0, -1.0], [-1.0, 0.5]])
    y = np.array([0, 1, 0])
    # z = 0 fires, wrong: w = (-0.5, -1), b = -0.5. z = -0.5 is 0, wrong: w = (0.5, -1.5), b = 0.
    # z = -0.5 - 0.75 = -1.25 is 0, right.
    model = Perceptron(eta0=0.5, shuffle=False).partial_fit(x, y, classes=[0, 1])
    np.testing.assert_array_equal(model.coef_, [[0.5, -1.5]])
    np.testing.assert_array_equal(model.intercept_, [0.0])


def test_each_output_neuron_learns_by_itself() -> None:
    x, labels = make_blobs(60, centers=3, n_features=4, random_state=0)
    together = Perceptron(shuffle=False)
    for _ in range(3):
        together.partial_fit(x, labels, classes=[0, 1, 2])
    for label in range(3):
        alone = Perceptron(shuffle=False)
        for _ in range(3):
            alone.partial_fit(x, labels == label, classes=[False, True])
        np.testing.assert_array_equal(together.coef_[label], alone.coef_[0])
        np.testing.assert_array_equal(together.intercept_[label], alone.intercept_[0])


@pytest.mark.parametrize("seed", range(5))
def test_iris_setosa_is_told_apart_as_by_scikit_learn(seed: int) -> None:
    iris = load_iris()
    x, y = iris.data[:, (2, 3)], (iris.target == 0).astype(int)
    ours = Perceptron(random_state=seed).fit(x, y)
    theirs = SklearnPerceptron(random_state=seed).fit(x, y)
    np.testing.assert_array_equal(ours.predict(x), theirs.predict(x))
    assert ours.score(x, y) == 1.0
    assert ours.predict([[2, 0.5]]) == [1]


def test_the_weights_are_scikit_learns_where_no_sum_is_zero() -> None:
    # scikit-learn also updates at a sum of 0 for the class that fires there; only the first sample has one, of class 0.
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, 5))
    y = (x @ [1.0, -2.0, 0.5, 0.0, 3.0] + rng.normal(size=200) > 0).astype(int)
    first = int(np.flatnonzero(y == 0)[0])
    x[[0, first]], y[[0, first]] = x[[first, 0]], y[[first, 0]]
    arguments = {"max_iter": 7, "tol": None, "shuffle": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours, theirs = Perceptron(**arguments).fit(x, y), SklearnPerceptron(**arguments).fit(x, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-12)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-12)
    np.testing.assert_allclose(ours.decision_function(x), theirs.decision_function(x), rtol=1e-9)


def test_stochastic_gradient_descent_on_the_perceptron_loss_is_the_rule() -> None:
    from annlib.models.losses import PerceptronLoss, perceptron

    iris = load_iris()
    x, y = iris.data[::3, (2, 3)].astype(np.float32), (iris.target[::3] == 0).astype(int)
    model = perceptron()
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=PerceptronLoss())
    annlib.fit(model, x, y, batch_size=1, epochs=1, shuffle=False, verbose=0)
    ours = Perceptron(shuffle=False).partial_fit(x, y, classes=[0, 1])
    weights, bias = model.get_weights()
    np.testing.assert_allclose(weights[:, 0], ours.coef_[0], rtol=1e-5)
    np.testing.assert_allclose(bias, ours.intercept_, rtol=1e-5)


@pytest.mark.parametrize("seed", range(20))
def test_a_perceptron_cannot_learn_xor(seed: int) -> None:
    with pytest.warns(ConvergenceWarning, match="may not be linearly separable"):
        model = Perceptron(random_state=seed, max_iter=50, tol=None).fit(XOR_X, XOR_Y)
    assert model.score(XOR_X, XOR_Y) <= 0.75


@pytest.mark.parametrize(("targets", "is_separable"), [(XOR_Y, False), ([0, 0, 0, 1], True), ([0, 1, 1, 1], True)])
def test_why_a_line_separates_and_or_but_not_xor(targets: Any, is_separable: bool) -> None:
    # A separating line is a solution w1, w2, b of t (w x + b) >= 1 for each sample, t = -1 or 1.
    signs = 2 * np.asarray(targets) - 1
    rows = -signs[:, None] * np.column_stack([XOR_X, np.ones(4)])
    solution = linprog(np.zeros(3), A_ub=rows, b_ub=-np.ones(4), bounds=(None, None))
    assert solution.success == is_separable


def test_an_mlp_learns_xor() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(1, activation="sigmoid")]
    )
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="binary_crossentropy")
    annlib.fit(model, XOR_X.astype("float32"), XOR_Y, batch_size=4, epochs=200, verbose=0, seed=0)
    learned = annlib.predict(model, XOR_X.astype("float32"))[:, 0]
    np.testing.assert_array_equal(learned > 0.5, xor(XOR_X))


def test_labels_may_be_text() -> None:
    model = Perceptron().fit([[0.0], [1.0], [3.0]], ["low", "low", "high"])
    assert model.predict([[5.0], [-1.0]]).tolist() == ["high", "low"]


def test_training_stops_after_an_epoch_without_a_mistake() -> None:
    x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    model = Perceptron(tol=None, shuffle=False).fit(x, [0, 0, 1, 1])
    assert model.n_iter_ < 10
    assert model.score(x, [0, 0, 1, 1]) == 1.0


def test_the_learning_rate_scales_the_weights_alone() -> None:
    x, y = load_iris().data[:, :2], load_iris().target == 0
    slow, fast = (Perceptron(eta0=eta0, shuffle=False).partial_fit(x, y, classes=[0, 1]) for eta0 in (0.25, 1.0))
    np.testing.assert_allclose(4 * slow.coef_, fast.coef_)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"eta0": 0}, "eta0 must be a finite number of more than 0; received 0"),
        ({"eta0": np.nan}, "eta0 must be a finite number"),
        ({"max_iter": 0}, "max_iter must be a whole number of 1 or more; received 0"),
        ({"max_iter": 1.5}, "max_iter must be a whole number"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be"),
        ({"shuffle": "no"}, "shuffle must be True or False; received 'no'"),
        ({"tol": True}, "tol must be None or a finite number of 0 or more; received True"),
        ({"tol": -1}, "tol must be None or a finite number of 0 or more; received -1"),
    ],
)
def test_a_wrong_parameter_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Perceptron(**arguments).fit(XOR_X, XOR_Y)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"greater than one; got 1 class"):
        Perceptron().fit(XOR_X, [1, 1, 1, 1])


def test_partial_fit_needs_the_classes_first_and_the_same_later() -> None:
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        Perceptron().partial_fit(XOR_X, XOR_Y)
    model = Perceptron().partial_fit(XOR_X, XOR_Y, classes=[0, 1])
    with pytest.raises(ValueError, match="is not the same as on the last call"):
        model.partial_fit(XOR_X, XOR_Y, classes=[0, 2])
    with pytest.raises(ValueError, match=r"y has labels that are not in classes: \[7\]"):
        model.partial_fit(XOR_X, [0, 1, 0, 7])
