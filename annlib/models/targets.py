"""What a target asks of a classifier: kind, encoding, and with them output layer, loss and metric.

Source: A. Géron, Hands-On Machine Learning, chapter 10, table 10-2.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from annlib.errors import ConfigError, DataError

# Table 10-2: (kind, encoding) to output activation, loss and metric.
_CLASSIFICATION = {
    ("binary", "sparse"): ("sigmoid", "binary_crossentropy", "binary_accuracy"),
    ("multilabel", "multi-hot"): ("sigmoid", "binary_crossentropy", "binary_accuracy"),
    ("multiclass", "sparse"): ("softmax", "sparse_categorical_crossentropy", "sparse_categorical_accuracy"),
    ("multiclass", "one-hot"): ("softmax", "categorical_crossentropy", "categorical_accuracy"),
}


@dataclass(frozen=True, kw_only=True)
class ClassificationTask:
    """What a classifier has to tell apart; decides its output layer, loss and metric by table 10-2.

    Args:
        kind: "binary", "multiclass" (exactly one class a sample) or "multilabel" (any number of labels a sample).
        num_classes: classes, 2 if binary, else 2 or more; labels if multilabel.
        encoding: "sparse", a class index a sample, shape (n,) or (n, 1); "one-hot", shape (n, num_classes), of a
            multiclass target; "multi-hot", shape (n, num_classes), of a multilabel target.

    Raises:
        ConfigError: the kind does not come in that encoding, or the number of classes does not fit the kind.
    """

    kind: Literal["binary", "multiclass", "multilabel"]
    num_classes: int
    encoding: Literal["sparse", "one-hot", "multi-hot"]

    def __post_init__(self) -> None:
        if (self.kind, self.encoding) not in _CLASSIFICATION:
            known = ", ".join(" ".join(pair) for pair in _CLASSIFICATION)
            raise ConfigError(
                f"the classification task is unknown; expected one of {known}; received {self.kind} {self.encoding}; "
                "correct kind or encoding"
            )
        check_count("num_classes", self.num_classes, minimum=2)
        if self.kind == "binary" and self.num_classes != 2:
            raise ConfigError(
                f"a binary task has another number of classes; expected 2; received {self.num_classes}; "
                "use kind='multiclass'"
            )

    @property
    def num_outputs(self) -> int:
        """Output neurons: 1 if binary, else one per class or label."""
        return 1 if self.kind == "binary" else self.num_classes

    @property
    def output_activation(self) -> str:
        """The sigmoid or the softmax."""
        return _CLASSIFICATION[self.kind, self.encoding][0]

    @property
    def loss(self) -> str:
        """The cross-entropy of this kind and encoding, by its Keras name."""
        return _CLASSIFICATION[self.kind, self.encoding][1]

    @property
    def metric(self) -> str:
        """The accuracy of this kind and encoding, by its Keras name; of a multilabel task the mean over all labels."""
        return _CLASSIFICATION[self.kind, self.encoding][2]


def classification_task(y: npt.ArrayLike) -> ClassificationTask:
    """Finds out from the targets what kind of classification it is.

    - Shape (n,) or (n, 1), values 0 and 1: binary.
    - Shape (n,) or (n, 1), whole numbers 0 to k - 1 with k of 3 or more, each present: multiclass, sparse.
    - Shape (n, k), zeros and ones, exactly one 1 in every row: multiclass, one-hot.
    - Shape (n, k), other zeros and ones: multilabel.

    Args:
        y: targets of the training split, boolean, integer or floating point (1.0 counts as 1).

    Raises:
        DataError: the targets are none of these, hold NaN, or are the same for all samples.
    """
    rows = target_rows(y)
    if (rows == rows[0]).all():
        raise DataError(
            f"y holds one class only; expected 2 or more; received {rows[0].tolist()} in all {len(rows)} rows; "
            "add samples of other classes"
        )
    if rows.shape[1] == 1:
        num_classes = _num_sparse_classes(rows)
        return ClassificationTask(
            kind="binary" if num_classes == 2 else "multiclass", num_classes=num_classes, encoding="sparse"
        )
    wrong = rows[(rows != 0) & (rows != 1)]
    if wrong.size:
        raise DataError(
            f"y of shape {rows.shape} is neither one-hot nor multilabel; expected zeros and ones; received {wrong[0]}; "
            "pass class indices of shape (n,), or encode each column"
        )
    if (rows.sum(axis=1) == 1).all():
        return ClassificationTask(kind="multiclass", num_classes=rows.shape[1], encoding="one-hot")
    return ClassificationTask(kind="multilabel", num_classes=rows.shape[1], encoding="multi-hot")


def target_rows(y: npt.ArrayLike) -> npt.NDArray[Any]:
    """Returns the targets, finite numbers, in the shape (n, columns).

    Raises:
        DataError: they are ragged, not numeric, empty, of another shape, or hold NaN or infinity.
    """
    try:
        array = np.asarray(y)
    except ValueError:
        raise DataError(
            "y is ragged; expected rows of equal length; received rows of different lengths; encode labels as 0 and 1"
        ) from None
    if array.dtype.kind not in "biuf":
        raise DataError(
            f"y is not numeric; expected numbers; received dtype {array.dtype}; convert it, classes for example with "
            "numpy.unique(y, return_inverse=True)[1]"
        )
    if array.ndim not in (1, 2) or array.size == 0:
        raise DataError(f"y has another shape; expected (n,) or (n, k), not empty; received {array.shape}; reshape it")
    num_bad = np.count_nonzero(~np.isfinite(array))
    if num_bad:
        raise DataError(f"y is not finite; expected numbers; received {num_bad} NaN or infinite; clean the data")
    return array.reshape(len(array), -1)


def _num_sparse_classes(rows: npt.NDArray[Any]) -> int:
    labels = np.unique(rows)
    renumber = "renumber them with numpy.unique(y, return_inverse=True)[1]"
    fractions = labels[labels != np.floor(labels)] if labels.dtype.kind == "f" else labels[:0]
    if fractions.size:
        raise DataError(
            f"y holds no class labels; expected whole numbers; received {fractions[0]}; is this a regression?"
        )
    expected = f"expected 0 to {len(labels) - 1}"
    if labels[0] != 0:
        raise DataError(
            f"the labels of y do not start at 0; {expected}; received {labels[0]} to {labels[-1]}; {renumber}"
        )
    if labels[-1] != len(labels) - 1:
        raise DataError(
            f"the labels of y skip a class; {expected}; received {len(labels)} different labels up to {labels[-1]}; "
            f"{renumber}, or pass a ClassificationTask"
        )
    return len(labels)


def check_count(name: str, value: Any, *, minimum: int) -> None:
    """Raises ConfigError unless `value` is a whole number of `minimum` or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ConfigError(
            f"{name} is wrong; expected a whole number of {minimum} or more; received {value!r}; correct it"
        )
