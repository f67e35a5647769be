"""Predictions of a finished run for a file of samples, in a file."""

from pathlib import Path
from typing import TYPE_CHECKING

import annlib
from annlib.artifacts import RunDirectory, check_can_be_written, replacing
from annlib.errors import ConfigError, StorageError
from annlib.prediction.columns import check_not_taken, predictions
from annlib.prediction.model import load_uncompiled
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
    check_not_taken(input_path, list(samples.table.columns), signature)
    model = load_uncompiled(run, signature)
    outputs = annlib.predict(model, signature.model_inputs(samples.x))
    table = samples.table.assign(**predictions(signature, outputs))
    try:
        with replacing(output_path) as temporary:
            _write(table, signature, temporary, output_path.suffix)
    except OSError as error:
        raise StorageError(
            f"{output_path} cannot be written: expected a writable directory with space, received "
            f"{error.strerror or error}. Give another -o."
        ) from None
    return len(table)


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
