"""A data set in memory: its splits, what its columns and classes are called, and how it was standardised."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from annlib.data.blocks import Blocks
from annlib.data.columns import Columns
from annlib.errors import DataError

Task = Literal["regression", "binary", "multiclass", "multilabel"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """The examples of one part of a data set. The arrays are read-only, so that a fingerprint stays true.

    Args:
        x: Inputs, shape (n, ...), boolean, integer or finite floating point.
        y: Targets, shape (n,) or (n, ...), of such a type too.
        weight: Weight of each example in the loss, shape (n,), 0 or more; None weighs all the same.

    Raises:
        DataError: The arrays differ in length, are empty, hold another type, or hold NaN or infinity.
    """

    x: npt.NDArray[Any]
    y: npt.NDArray[Any]
    weight: npt.NDArray[Any] | None = None

    def __post_init__(self) -> None:
        for name, array in (("x", self.x), ("y", self.y), ("weight", self.weight)):
            if array is None:
                continue
            _check_is_array(name, array)
            if array.ndim == 0 or len(array) == 0:
                raise DataError(
                    f"{name} has no examples; expected at least 1; received shape {array.shape}; check the data"
                )
            if array.dtype.kind not in "biuf":
                raise DataError(
                    f"{name} is not numeric; expected numbers; received dtype {array.dtype}; convert it first"
                )
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                num_bad = np.count_nonzero(~np.isfinite(array))
                raise DataError(
                    f"{name} is not finite; expected numbers; received {num_bad} NaN or infinite; clean the data"
                )
            # A view, because the caller's own array must stay as it is.
            view = array.view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)
        if len(self.x) != len(self.y):
            raise DataError(
                f"x and y differ in length; expected one target per example; received {len(self.x)} and {len(self.y)}; "
                "check how they were split"
            )
        if self.weight is not None and self.weight.shape != (len(self.x),):
            raise DataError(
                f"weight does not fit x; expected shape {(len(self.x),)}; received {self.weight.shape}; give one "
                "weight per example"
            )

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedSplit(Split):
    """The examples of one part of a data set that stays on disk.

    Args:
        x: A sample of the inputs, from all over the part; y and weight are of the same examples.
        blocks: All examples: x, y, and weights where there are such. Its length is that of the split.
        y_moments: Mean and standard deviation of a regression's targets over the training split; None of other tasks.
    """

    blocks: Blocks
    y_moments: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.blocks)


@dataclass(frozen=True, kw_only=True, eq=False)
class Standardization:
    """The mean and the scale of each feature, fitted on a training split.

    Args:
        mean: float64, shape (num_features,), in the unit of the feature.
        scale: float64, shape (num_features,), in the unit of the feature, positive.
    """

    mean: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, x: npt.NDArray[Any]) -> Self:
        """Fit on `x`, shape (n, num_features), as `sklearn.preprocessing.StandardScaler` does.

        A constant feature gets the scale 1.
        """
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(x)
        return cls(mean=scaler.mean_, scale=scaler.scale_)

    def transform(self, x: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return `(x - mean) / scale`, computed in float64.

        Args:
            x: Shape (n, num_features), in the units of the features.

        Returns:
            float32, the shape of `x`, without unit.

        Raises:
            DataError: `x` has another number of features.
        """
        if x.ndim == 0 or x.shape[-1] != len(self.mean):
            raise DataError(
                f"x does not fit the standardization; expected {len(self.mean)} features; received shape {x.shape}; "
                "give the features the model was trained on"
            )
        standardized: npt.NDArray[np.float32] = ((x - self.mean) / self.scale).astype(np.float32)
        return standardized


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set, split and ready to train on.

    Args:
        train: What the model and the preprocessing are fitted on.
        validation: What decides between models and when to stop.
        test: What is looked at last.
        class_names: Name of each label 0, 1, ... of a classification; None for a regression.
        feature_names: Name of each column of x; None for images.
        target_name: What a regression predicts; None for a classification.
        target_unit: Unit of y; None where it has none.
        scaler: Mean and scale of each feature over the training split, by which `load` standardises x; None for images.
        name: The name that `load` knows it by.
        task: The kind of task, where the data decided it; None leaves it to class names and model.
        columns: How the raw columns of a table became x; None where x is what the model takes from a user.
        notes: What a user should know about how it was prepared, a line each.

    Raises:
        DataError: A split differs in shape or type from the training split, or a label has no class name.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    target_unit: str | None = None
    scaler: Standardization | None = None
    name: str = "the data set"
    task: Task | None = None
    columns: Columns | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls, x: npt.NDArray[Any], y: npt.NDArray[Any], *, class_names: tuple[str, ...] | None = None, seed: int = 42
    ) -> Self:
        """Split at random: a quarter for the test, a quarter of the rest for validation.

        Args:
            x: Inputs, shape (n, ...).
            y: Targets, shape (n, ...); class numbers where there are class names.
            class_names: Name of each class, of which every split then has its share; None for a regression.
            seed: Seed of the split.

        Raises:
            DataError: There are too few examples, of a class or in all, or the arrays are not as `Split` wants them.
        """
        from sklearn.model_selection import train_test_split

        _check_is_array("x", x)
        _check_is_array("y", y)

        def halves(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Any:
            try:
                return train_test_split(x, y, random_state=seed, stratify=y if class_names is not None else None)
            except ValueError as error:
                raise DataError(
                    f"the arrays cannot be split; expected as many of x as of y, and some of each class for each of 3 "
                    f"splits; received shapes {x.shape} and {y.shape}: {error}; give Dataset three splits of your own"
                ) from None

        x_rest, x_test, y_rest, y_test = halves(x, y)
        x_train, x_validation, y_train, y_validation = halves(x_rest, y_rest)
        return cls(
            train=Split(x=x_train, y=y_train),
            validation=Split(x=x_validation, y=y_validation),
            test=Split(x=x_test, y=y_test),
            class_names=class_names,
        )

    def __post_init__(self) -> None:
        for name, array in self._arrays():
            reference = getattr(self.train, name[-1])
            if (array.dtype, array.shape[1:]) != (reference.dtype, reference.shape[1:]):
                raise DataError(
                    f"{name} of {self.name} is not like the training split; expected {_kind(reference)}; "
                    f"received {_kind(array)}; prepare all splits in the same way"
                )
            if self.class_names is not None and name.endswith("y"):
                self._check_labels(name, array, len(self.class_names))

    def _check_labels(self, name: str, labels: npt.NDArray[Any], num_classes: int) -> None:
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= num_classes:
            raise DataError(
                f"{name} of {self.name} has labels without a class name; expected 0 to {num_classes - 1}; "
                f"received {labels.dtype} from {labels.min()} to {labels.max()}; check the labels or name all classes"
            )

    def _arrays(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        for split in ("train", "validation", "test"):
            for name in ("x", "y"):
                yield f"{split}.{name}", getattr(getattr(self, split), name)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256, hexadecimal, over the type, shape and bytes of all examples. A resumed run compares it."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            if isinstance(split, StreamedSplit):
                digest.update(split.blocks.fingerprint.encode())
        weights = [
            (f"{name}.weight", weight)
            for name in ("train", "validation", "test")
            if (weight := getattr(self, name).weight) is not None
        ]
        for name, array in (*self._arrays(), *weights):
            # The lengths are part of the shape, so no two data sets give the same sequence of bytes.
            digest.update(f"{name} {array.dtype.str} {array.shape};".encode())
            # A view of the bytes; a copy is made only of an array that is not contiguous.
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def _check_is_array(name: str, value: object) -> None:
    if not isinstance(value, np.ndarray):
        raise DataError(
            f"{name} is a {type(value).__name__}; expected one NumPy array of numbers, an example a row; received "
            "another type; put all inputs into one array, of which Workload.inputs gives each input of the model its "
            "columns"
        )


def _kind(array: npt.NDArray[Any]) -> str:
    return f"{array.dtype} examples of shape {array.shape[1:]}"
