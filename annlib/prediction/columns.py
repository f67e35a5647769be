"""The columns that predictions add to a table."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from annlib.errors import DataError
from annlib.signature import Signature


def prediction_columns(signature: Signature) -> tuple[str, ...]:
    """Returns the names of the columns that predictions add.

    - Classification: `class`, the index; `class_name`; `probability` of that class, empty where the model gives a
      score; then there is `score` too.
    - Labels: `predicted_<label>`, 0 or 1, of each, then `probability_<label>` of each.
    - Regression: `predicted_<target name>`, in the unit of the target; all but letters, digits and `_` become `_`. Of
      several targets it is followed by `_0`, `_1` and so on.

    Where a feature or the target has one of these names, all of them begin with one `predicted_` more.
    """
    names = _names(signature)
    own = {*(signature.feature_names or ()), signature.target_name}
    if signature.columns is not None:
        own.update(signature.columns.raw_names)
    while own.intersection(names):
        names = tuple(f"predicted_{name}" for name in names)
    return names


def _names(signature: Signature) -> tuple[str, ...]:
    if signature.task == "regression":
        name, number = f"predicted_{_word(signature.target_name or 'target')}", signature.num_targets
        return (name,) if number == 1 else tuple(f"{name}_{index}" for index in range(number))
    if signature.output == "labels":
        labels: list[str] = []
        for name in map(_word, signature.class_names or ()):
            # c++ and c# are both c.
            labels.append(name if name not in labels else f"{name}_{len(labels) + 1}")
        return (*(f"predicted_{label}" for label in labels), *(f"probability_{label}" for label in labels))
    score = ("score",) if signature.output == "score" else ()
    return ("class", "class_name", "probability", *score)


def _word(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "target"


def check_not_taken(path: Path, columns: list[str], signature: Signature) -> None:
    """Raises DataError where the samples have a column of a name that predictions use."""
    taken = [name for name in prediction_columns(signature) if name in columns]
    if taken:
        raise DataError(
            f"{path} already has the columns {', '.join(taken)}: expected names that predictions do not use, "
            f"received {', '.join(columns)}. Rename or remove them."
        )


def predictions(signature: Signature, outputs: Any) -> dict[str, Any]:
    """Returns the values of `prediction_columns`, shape (n,) each, from what the model gave for n samples.

    Raises:
        CheckpointError: the shape is not that of the signature.
        DataError: an output is NaN or infinite.
    """
    columns = signature.output_columns(outputs)
    names = prediction_columns(signature)
    if signature.class_names is None:
        return dict(zip(names, columns.T, strict=True))
    if signature.output == "labels":
        return dict(zip(names, [*signature.labels(outputs).T, *columns.T], strict=True))
    labels, probabilities = signature.classify(outputs)
    empty = np.full(len(labels), np.nan, columns.dtype)
    values = [labels, np.array(signature.class_names, dtype=object)[labels]]
    values.append(empty if probabilities is None else probabilities)
    return dict(zip(names, [*values, columns[:, 0]], strict=False))
