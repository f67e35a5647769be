"""The perceptron as a scikit-learn estimator: threshold logic units trained by Rosenblatt's learning rule.

Source: A. Géron, Hands-On Machine Learning, chapter 10, equation 10-3; F. Rosenblatt, The Perceptron, 1957.
"""

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from annlib.models.neurons import (
    AND,
    AND_NOT,
    IDENTITY,
    OR,
    ThresholdLogicUnit,
    at_least,
    heaviside,
    layer_output,
    sgn,
    truth_table,
    xor,
)

__all__ = [
    "Perceptron",
    "ThresholdLogicUnit",
    "IDENTITY",
    "AND",
    "OR",
    "AND_NOT",
    "at_least",
    "xor",
    "truth_table",
    "heaviside",
    "sgn",
    "layer_output",
]

Array = npt.NDArray[Any]


class Perceptron(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A layer of threshold logic units, trained sample by sample: w_ij += η (y_j - ŷ_j) x_i.

    ŷ is heaviside(xw + b), which is 1 at 0; y is 1 for the neuron's class. Two classes need one neuron, which fires for
    the second class; more classes have one neuron each, and the largest weighted sum decides. Weights start at 0, so
    that the learning rate scales them and changes no prediction. `sklearn.linear_model.Perceptron` differs in one
    point: at a weighted sum of exactly 0 it updates for samples of both classes.

    Args:
        eta0: the learning rate η, more than 0.
        max_iter: epochs at most, 1 or more.
        tol: stop after `n_iter_no_change` epochs whose mean loss, max(0, -margin), is not better than the best one by
            `tol`; None stops only after an epoch without a mistake or at `max_iter`.
        n_iter_no_change: epochs without a better one to wait for, 1 or more.
        shuffle: visit the samples in another order in each epoch.
        random_state: of the order; 0 by default, as in scikit-learn.

    Attributes:
        coef_: weights, shape (neurons, num_features), float64.
        intercept_: biases, shape (neurons,).
        classes_: labels, sorted.
        n_iter_: epochs of the last `fit` or `partial_fit`.
    """

    def __init__(
        self,
        *,
        eta0: float = 1.0,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        shuffle: bool = True,
        random_state: Any = 0,
    ) -> None:
        self.eta0 = eta0
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.shuffle = shuffle
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:  # scikit-learn's name
        """Trains from weights of 0.

        Args:
            X: shape (n, num_features), finite numbers.
            y: labels of two or more classes, shape (n,).

        Raises:
            ValueError: a parameter or an array is wrong, as scikit-learn says it.
        """
        self._check_parameters()
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self._set_classes(np.unique(y))
        if self._train(X, y, max_iter=self.max_iter):
            warnings.warn(
                f"max_iter={self.max_iter} epochs were reached with mistakes left. Increase max_iter, or accept "
                "that the classes may not be linearly separable.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:
        """Trains one epoch on from the present weights.

        Args:
            X: as for `fit`.
            y: as for `fit`; it may lack classes.
            classes: all labels; needed in the first call, the same or None later.

        Raises:
            ValueError: as for `fit`; classes are missing in the first call or others than before.
        """
        self._check_parameters()
        is_first = not hasattr(self, "classes_")
        X, y = validate_data(self, X, y, dtype=np.float64, reset=is_first)
        check_classification_targets(y)
        if is_first:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self._set_classes(unique_labels(classes))
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(
                f"classes={classes!r} is not the same as on the last call to partial_fit: {self.classes_}."
            )
        unknown = np.setdiff1d(y, self.classes_)
        if len(unknown):
            raise ValueError(f"y has labels that are not in classes: {unknown.tolist()}. Expected {self.classes_}.")
        self._train(X, y, max_iter=1)
        return self

    def decision_function(self, X: Any) -> Array:
        """Returns the weighted sums xw + b, shape (n,) for two classes, else (n, num_classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        sums = X @ self.coef_.T + self.intercept_
        values: Array = sums[:, 0] if len(self.classes_) == 2 else sums
        return values

    def predict(self, X: Any) -> Array:
        """Returns the label of each row, shape (n,)."""
        sums = self.decision_function(X)
        labels: Array = self.classes_[(sums >= 0).astype(int) if sums.ndim == 1 else sums.argmax(axis=1)]
        return labels

    def _set_classes(self, classes: Array) -> None:
        if len(classes) < 2:
            raise ValueError(
                f"The number of classes has to be greater than one; got {len(classes)} class: {classes.tolist()}."
            )
        num_neurons = 1 if len(classes) == 2 else len(classes)
        self.classes_ = classes
        self.coef_ = np.zeros((num_neurons, self.n_features_in_))
        self.intercept_ = np.zeros(num_neurons)

    def _train(self, x: Array, labels: Array, *, max_iter: int) -> bool:
        """Returns whether `max_iter` ended the training, and not an epoch without a mistake or `tol`."""
        fires_for = self.classes_[-len(self.intercept_) :]
        targets = (labels[:, None] == fires_for).astype(np.float64)
        random = check_random_state(self.random_state)
        best_loss, num_worse = np.inf, 0
        for self.n_iter_ in range(1, max_iter + 1):
            order = random.permutation(len(x)) if self.shuffle else np.arange(len(x))
            loss, num_mistakes = self._run_epoch(x[order], targets[order])
            if num_mistakes == 0:
                return False
            if self.tol is not None:
                num_worse = num_worse + 1 if loss > best_loss - self.tol else 0
                best_loss = min(best_loss, loss)
                if num_worse >= self.n_iter_no_change:
                    return False
        return True

    def _run_epoch(self, x: Array, targets: Array) -> tuple[float, int]:
        """Applies the rule to each sample in turn; returns the mean loss and the number of wrong outputs."""
        weights, bias = self.coef_, self.intercept_
        loss, num_mistakes = 0.0, 0
        for row, target in zip(x, targets, strict=True):
            sums = weights @ row + bias
            error = target - (sums >= 0)
            wrong = int(np.count_nonzero(error))
            if wrong:
                loss += float(np.abs(sums[error != 0]).sum())
                num_mistakes += wrong
                weights += self.eta0 * np.outer(error, row)
                bias += self.eta0 * error
        return loss / len(x), num_mistakes

    def _check_parameters(self) -> None:
        for name in ("max_iter", "n_iter_no_change"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more; received {value!r}.")
        if isinstance(self.eta0, bool) or not isinstance(self.eta0, Real) or not 0 < self.eta0 < np.inf:
            raise ValueError(f"eta0 must be a finite number of more than 0; received {self.eta0!r}.")
        if not isinstance(self.shuffle, bool | np.bool_):
            raise ValueError(f"shuffle must be True or False; received {self.shuffle!r}.")
        is_number = isinstance(self.tol, Real) and not isinstance(self.tol, bool)
        if self.tol is not None and not (is_number and 0 <= self.tol < np.inf):
            raise ValueError(f"tol must be None or a finite number of 0 or more; received {self.tol!r}.")
