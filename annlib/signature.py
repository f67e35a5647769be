"""What a saved model takes and gives: `<run>/signature.json`, read without TensorFlow.

The saved models standardise or rescale inside themselves: raw features or pixels go in, and probabilities, a score, or
a target in its unit come out.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, TypeAdapter, ValidationError

from annlib.data import Dataset
from annlib.data.columns import Columns
from annlib.errors import CheckpointError, ConfigError, DataError, StorageError

Array = npt.NDArray[Any]
Output = Literal["probabilities", "sigmoid", "labels", "score", "value"]


@dataclass(frozen=True)
class InputColumns:
    """One input of a model that has several.

    Args:
        name: name of the input.
        columns: the columns of the feature table it gets, from 0.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: str
    columns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a model takes and gives.

    Args:
        task: what the model does.
        output: how its output reads. "probabilities": one of each class, the largest decides. "sigmoid": the
            probability of class 1, which is predicted from 0.5 on. "labels": the probability of each label, which are
            the class names, each predicted from 0.5 on. "score": a perceptron's weighted sum, class 1 from
            0 on, no probability. "value": the target of a regression, in its unit.
        class_names: name of each class 0, 1, ...; None for a regression.
        feature_names: name of each column of the feature table; None for images and unnamed features.
        target_name: what a regression predicts; None for a classification.
        target_unit: unit of the target; None where it has none.
        num_targets: how many values of it a regression predicts for each sample.
        input_shape: shape of one sample, without the batch.
        input_dtype: "uint8" for pixels, "float32" or "float64" for features.
        input_max: largest pixel value that fits the data the model was trained on; None for features.
        inputs: the columns of each input of a model with several; None passes the array as it is.
        columns: of a table: how raw columns become the features, which are inside the saved model; None where there is
            nothing to do.

    Raises:
        ConfigError: the fields contradict each other.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    task: Literal["classification", "regression"]
    output: Output
    class_names: tuple[str, ...] | None = None
    feature_names: tuple[str, ...] | None = None
    target_name: str | None = None
    target_unit: str | None = None
    num_targets: int = 1
    input_shape: tuple[int, ...]
    input_dtype: Literal["uint8", "float32", "float64"]
    input_max: int | None = None
    inputs: tuple[InputColumns, ...] | None = None
    columns: Columns | None = None

    def __post_init__(self) -> None:
        for is_right, expected, received in self._rules():
            if not is_right:
                raise ConfigError(
                    f"the signature contradicts itself: expected {expected}, received {received}. Correct one of them."
                )

    def _rules(self) -> list[tuple[bool, str, str]]:
        names, features, shape = self.class_names, self.feature_names, self.input_shape
        columns = [column for part in self.inputs or () for column in part.columns]
        is_binary = self.output in ("sigmoid", "score")
        width = shape[0] if len(shape) == 1 else 0
        return [
            (bool(shape) and all(size > 0 for size in shape), "an input_shape of positive sizes", str(shape)),
            (
                (self.task == "regression") == (self.output == "value") == (names is None),
                "class names and no value for a classification, a value and no class names for a regression",
                f"task {self.task}, output {self.output}, class names {names}",
            ),
            (names is None or len(names) >= 2, "2 or more class names", str(names)),
            (not is_binary or len(names or ()) == 2, f"2 class names for output {self.output}", str(names)),
            (
                features is None or shape == (len(features),),
                f"a feature name for each of input_shape {shape}",
                f"{len(features or ())} names",
            ),
            (
                self.columns is None or self.columns.encoded_names == features,
                f"the feature names {self.columns and self.columns.encoded_names} of the columns",
                str(features),
            ),
            (
                self.inputs is None or (len(columns) > 0 and all(0 <= column < width for column in columns)),
                f"inputs with columns of a table of input_shape {shape}",
                f"columns {columns}",
            ),
        ]

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        inputs: Sequence[tuple[str, Sequence[int]]] | None = None,
        *,
        output: Output | None = None,
    ) -> Self:
        """Returns the signature of a model trained on `dataset`.

        Args:
            dataset: with class names it is a classification, else a regression.
            inputs: name and columns of each input, as in `Workload.inputs`.
            output: how the model's output reads; None is "probabilities" of a classification, "value" of a regression.

        Raises:
            ConfigError: `output` or `inputs` do not fit the data set.
        """
        x, y = dataset.train.x, dataset.train.y
        is_classification = dataset.class_names is not None
        default: Output = "probabilities" if is_classification else "value"
        if dataset.task in ("binary", "multilabel"):
            default = "sigmoid" if dataset.task == "binary" else "labels"
        splits = (dataset.train, dataset.validation, dataset.test)
        return cls(
            task="classification" if is_classification else "regression",
            output=default if output is None else output,
            class_names=dataset.class_names,
            feature_names=dataset.feature_names,
            target_name=dataset.target_name,
            target_unit=dataset.target_unit,
            num_targets=y.shape[1] if not is_classification and y.ndim == 2 else 1,
            input_shape=tuple(x.shape[1:]),
            input_dtype=_input_dtype(x),
            input_max=_most(max(int(split.x.max()) for split in splits)) if x.dtype == np.uint8 else None,
            inputs=None if inputs is None else tuple(InputColumns(name, tuple(columns)) for name, columns in inputs),
            columns=dataset.columns,
        )

    def to_json(self) -> str:
        """Returns the JSON that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str | Path = "the signature") -> Self:
        """Reads what `to_json` wrote; every field must be there and of its type, and no other.

        Args:
            text: JSON.
            source: where the text stands, for messages.

        Raises:
            StorageError: the text is damaged.
        """
        try:
            found: Self = TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            reason = f"{place}: {first['msg']}"
        except ConfigError as error:
            reason = str(error).rsplit(". ", 1)[0]
        else:
            missing = {field.name for field in dataclasses.fields(cls)} - json.loads(text).keys()
            if not missing:
                return found
            reason = f"{', '.join(sorted(missing))}: Field required"
        raise StorageError(
            f"{source} is damaged: expected the signature of a model, received one with an error ({reason}). "
            "Restore the file, or train again under another name."
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads a file that holds `to_json`.

        Raises:
            StorageError: it is missing, unreadable or damaged.
        """
        try:
            text = path.read_bytes()
        except OSError as error:
            raise StorageError(
                f"{path} cannot be read: expected what the model takes and gives, received {error.strerror}. "
                "Give a run that `jobs/train.py` finished."
            ) from None
        return cls.from_json(text, source=path)

    def model_inputs(self, x: Array) -> Any:
        """Returns what the model takes for `x`, shape (n, *input_shape): `x`, or a tuple of columns for each input."""
        if self.inputs is None:
            return x
        return tuple(np.ascontiguousarray(x[:, list(part.columns)]) for part in self.inputs)

    def main_output(self, outputs: Any) -> Array:
        """Returns what the model gave, of several outputs the first, main one.

        Returns:
            Shape (n, k): a column for each class of "probabilities", each of "labels" and each target, else one.

        Raises:
            CheckpointError: the shape is not that of the signature.
        """
        if isinstance(outputs, Mapping):
            outputs = list(outputs.values())
        array = np.asarray(outputs[0] if isinstance(outputs, list | tuple) else outputs)
        num_columns = len(self.class_names or ()) if self.output in ("probabilities", "labels") else self.num_targets
        columns = array.reshape(-1, 1) if array.ndim == 1 else array
        if columns.ndim != 2 or columns.shape[1] != num_columns:
            raise CheckpointError(
                f"the model does not fit its signature: expected outputs of shape (n, {num_columns}), received "
                f"{array.shape}. Give the model and the signature of one run."
            )
        return columns

    def output_columns(self, outputs: Any) -> Array:
        """Returns `main_output`, checked to be numbers.

        Raises:
            CheckpointError: the shape is not that of the signature.
            DataError: an output is NaN or infinite.
        """
        columns = self.main_output(outputs)
        bad = np.flatnonzero(~np.isfinite(columns).all(axis=1))
        if bad.size:
            raise DataError(
                f"the model's output is not finite: expected numbers, received NaN or infinity for {bad.size} samples, "
                f"the first of them number {bad[0] + 1}. Check the inputs for values far from the training data."
            )
        return columns

    def classify(self, outputs: Any) -> tuple[npt.NDArray[np.int64], Array | None]:
        """Reads the outputs of a classification; labels have no one class, for those see `labels`.

        Returns:
            The class of each sample, shape (n,), and its probability; None where the output is a score.

        Raises:
            CheckpointError: the shape is not that of the signature.
            DataError: an output is NaN or infinite.
        """
        columns = self.output_columns(outputs)
        if self.output == "probabilities":
            return columns.argmax(axis=1).astype(np.int64), columns.max(axis=1)
        first = columns[:, 0]
        if self.output == "score":
            return (first >= 0).astype(np.int64), None
        labels = (first >= 0.5).astype(np.int64)
        return labels, np.where(labels == 1, first, 1 - first)

    def labels(self, outputs: Any) -> npt.NDArray[np.int64]:
        """Returns for each sample and label whether it is predicted, 0 or 1, shape (n, k).

        Raises:
            CheckpointError: the shape is not that of the signature.
            DataError: an output is NaN or infinite.
        """
        return (self.output_columns(outputs) >= 0.5).astype(np.int64)


def _most(brightest: int) -> int:
    """Returns the largest pixel value of a scale: of 16 grey levels, or of all 256 as in most files."""
    return 255 if brightest > 127 else brightest


def _input_dtype(x: Array) -> Literal["uint8", "float32", "float64"]:
    if x.dtype == np.uint8:
        return "uint8"
    # Keras' inputs are float32 where nothing else is said.
    return "float64" if x.dtype == np.float64 else "float32"
