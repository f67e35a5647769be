"""Predictions of a finished run for a file of samples, in a file."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import annlib
from annlib.artifacts import RunDirectory, check_can_be_written, replacing
from annlib.errors import ConfigError, DataError, StorageError
from annlib.loading import load_core
from annlib.samples import read_samples
from annlib.signature import Signature

if TYPE_CHECKING:
    import pandas as pd

OUTPUT_ENDINGS = (".csv", ".parquet")


def predict_file(run: RunDirectory, input_path: Path, output_path: Path, *, overwrite: bool = False) -> int:
    """Predicts every sample of a file and writes them with the predictions, all or nothing.

    Args:
        run: a finished run.
        input_path: the samples; `annlib.samples.read_samples` says in which forms.
        output_path: file to write, `.csv` or `.parquet`: what stood in the input, then the columns of
            `prediction_columns`.
        overwrite: True replaces a file that is there.

    Returns:
        The number of samples.

    Raises:
        ConfigError: the ending of the output is unknown, or the file exists.
        DataError: the input is unreadable or does not fit the model; or a column of the output has a name twice.
        StorageError: a file of the run is missing or damaged, or the output cannot be written.
        CheckpointError: the model is damaged or does not fit its signature.
    """
    _check_output(output_path, overwrite)
    signature = Signature.read(run.signature)
    samples = read_samples(input_path, signature)
    taken = [name for name in prediction_columns(signature) if name in samples.table.columns]
    if taken:
        raise DataError(
            f"{input_path} already has the columns {', '.join(taken)}: expected names that predictions do not use, "
            f"received {', '.join(samples.table.columns)}. Rename or remove them."
        )
    # Loss and optimizer are not needed, and an HDF5 file may have none.
    model = load_core(run, signature, compile=False)
    outputs = annlib.predict(model, signature.model_inputs(samples.x))
    table = samples.table.assign(**_predictions(signature, outputs))
    try:
        with replacing(output_path) as temporary:
            _write(table, signature, temporary, output_path.suffix)
    except OSError as error:
        raise StorageError(
            f"{output_path} cannot be written: expected a writable directory with space, received "
            f"{error.strerror or error}. Give another -o."
        ) from None
    return len(table)


def prediction_columns(signature: Signature) -> tuple[str, ...]:
    """Returns the names of the columns that predictions add.

    - Classification: `class`, the index; `class_name`; `probability` of that class, empty where the model gives a
      score; then there is `score` too.
    - Labels: `predicted_<label>`, 0 or 1, of each, then `probability_<label>` of each.
    - Regression: `predicted_<target name>`, in the unit of the target; all but letters, digits and `_` become `_`.
    """
    if signature.task == "regression":
        return (f"predicted_{_word(signature.target_name or 'target')}",)
    if signature.output == "labels":
        labels = [_word(name) for name in signature.class_names or ()]
        return (*(f"predicted_{label}" for label in labels), *(f"probability_{label}" for label in labels))
    score = ("score",) if signature.output == "score" else ()
    return ("class", "class_name", "probability", *score)


def _word(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "target"


def _predictions(signature: Signature, outputs: Any) -> dict[str, Any]:
    columns = signature.output_columns(outputs)
    names = prediction_columns(signature)
    if signature.class_names is None:
        return {names[0]: columns[:, 0]}
    if signature.output == "labels":
        return dict(zip(names, [*signature.labels(outputs).T, *columns.T], strict=True))
    labels, probabilities = signature.classify(outputs)
    empty = np.full(len(labels), np.nan, columns.dtype)
    values = [labels, np.array(signature.class_names, dtype=object)[labels]]
    values.append(empty if probabilities is None else probabilities)
    return dict(zip(names, [*values, columns[:, 0]], strict=False))


def _check_output(path: Path, overwrite: bool) -> None:
    if path.suffix not in OUTPUT_ENDINGS:
        raise ConfigError(
            f"{path} has an unknown ending: expected {' or '.join(OUTPUT_ENDINGS)}, received "
            f"{path.suffix or 'none'}. Give -o another name."
        )
    check_can_be_written(path)
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists: expected a new file, received one. Give another -o, or --overwrite.")


def _write(table: "pd.DataFrame", signature: Signature, path: Path, ending: str) -> None:
    if ending == ".csv":
        table.to_csv(path, index=False, lineterminator="\n")
        return
    import pandas as pd
    import pyarrow
    import pyarrow.parquet

    # What a CSV holds was kept as text; the features are known to be numbers. Those of a table may be missing.
    known = [] if signature.columns is not None else signature.feature_names or ()
    features = [name for name in known if name in table.columns]
    numbers = {name: pd.to_numeric(table[name]) for name in features if pd.api.types.is_string_dtype(table[name])}
    content = pyarrow.Table.from_pandas(table.assign(**numbers), preserve_index=False)
    # pandas' notes would make it read the columns as pyarrow's types, because it was asked to read the input so.
    pyarrow.parquet.write_table(content.replace_schema_metadata(None), path)
