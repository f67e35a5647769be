"""Predicts one file after another with a model that is loaded once: what each process does."""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet

import annlib
from annlib.errors import AnnlibError, DataError, StorageError
from annlib.loading import open_run
from annlib.prediction.chunks import read_chunks
from annlib.prediction.columns import predictions
from annlib.prediction.inputs import InputFile
from annlib.prediction.model import load_uncompiled
from annlib.prediction.output import Output, Record, model_version
from annlib.signature import Signature
from annlib.storage import Remote, describe, insist, is_remote

# Bytes of inputs that go through the model at once, as float32: they stay in a core's cache. The batch of
# `annlib.predict` is the least, for a call of the model costs as much as a thousand small rows.
BATCH_BYTES = 2**20
FEWEST_ROWS, MOST_ROWS = 1024, 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one file.

    Args:
        name: the file.
        num_rows: rows with a prediction.
        num_rejected: rows that were set aside.
        first_rejected: number and reason of the first of them.
        started: when it was begun, in seconds since 1970.
        seconds: time that it took.
        model_s: seconds of them that the model took; the rest is reading and writing.
        error: why the file was left out; empty where it was not.
        is_fatal: True where the next file would fail in the same way.
    """

    name: str
    num_rows: int = 0
    num_rejected: int = 0
    first_rejected: str = ""
    started: float = 0.0
    seconds: float = 0.0
    model_s: float = 0.0
    error: str = ""
    is_fatal: bool = False


class Predictor:
    """Predicts files with one run.

    Args:
        run: the run's location, a path or a URI.
        model: `model_version` that the run shall have.
        output: location of the directory that predictions go to.

    Raises:
        StorageError: the run is missing, or another one than was meant.
        CheckpointError: the model is damaged.
    """

    def __init__(self, run: str, model: str, output: str) -> None:
        directory = open_run(run)
        received = model_version(directory)
        if received != model:
            raise StorageError(
                f"{run} holds another model here: expected the one of the driver, {model[:8]}, received "
                f"{received[:8]}. Give a run on a storage that all nodes share."
            )
        self._signature = Signature.read(directory.signature)
        self._model = load_uncompiled(directory, self._signature)
        self._version = model
        self._output = Output(output)
        # As float32, which is what layers see.
        row_bytes = 4 * int(np.prod(self._signature.input_shape))
        self._batch_size = int(np.clip(BATCH_BYTES // row_bytes, FEWEST_ROWS, MOST_ROWS))
        # Compiles the model before the first file; two sizes, after which it is one function for all of them.
        for num_rows in (1, 2):
            x = np.zeros((num_rows, *self._signature.input_shape), self._signature.input_dtype)
            self._no_outputs = self._apply(x)[:0]

    def predict(self, file: InputFile) -> Result:
        """Predicts a file, and writes its predictions and what was set aside; a file that fails leaves nothing."""
        try:
            return self._predict(file)
        except DataError as error:
            # Not predictions of what stood there before.
            self._output.remove(file.output_name)
            return Result(name=file.name, error=str(error))
        except AnnlibError as error:
            return Result(name=file.name, error=str(error), is_fatal=True)

    def _predict(self, file: InputFile) -> Result:
        started, clock = time.time(), time.perf_counter()
        rejected: list[tuple[int, str]] = []
        num_rows, model_s = 0, 0.0
        with (
            _local(file) as path,
            self._output.writing(file.output_name) as temporary,
            _Writer(temporary) as writer,
            # Reading and writing beside the model, for they and TensorFlow work without Python's lock.
            ThreadPoolExecutor(2) as threads,
        ):
            chunks = read_chunks(path, self._signature)
            coming = threads.submit(next, chunks, None)
            written: Future[None] | None = None
            while (chunk := coming.result()) is not None:
                coming = threads.submit(next, chunks, None)
                before = time.perf_counter()
                outputs = self._apply(chunk.x) if len(chunk.x) else self._no_outputs
                model_s += time.perf_counter() - before
                is_finite = np.isfinite(outputs).all(axis=1)
                reason = "the model gives no finite number: expected values like those of the training data"
                chunk = chunk.without(~is_finite, [reason] * int((~is_finite).sum()))
                rejected += chunk.rejected
                num_rows += len(chunk.x)
                if written is not None:
                    written.result()
                written = threads.submit(writer.write, self._with_predictions(chunk.table, outputs[is_finite]))
            if written is not None:
                written.result()
            # Before the predictions get their name: what has it is complete.
            self._output.write_rejected(file.output_name, file.location, rejected)
            writer.add(Record(self._version, file.version, num_rows, len(rejected), file.root))
        first = min(rejected, default=None)
        return Result(
            name=file.name,
            num_rows=num_rows,
            num_rejected=len(rejected),
            first_rejected=f"row {first[0]}: {first[1]}" if first else "",
            started=started,
            seconds=time.perf_counter() - clock,
            model_s=model_s,
        )

    def _apply(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        outputs = annlib.predict(self._model, self._signature.model_inputs(x), batch_size=self._batch_size)
        return self._signature.main_output(outputs)

    def _with_predictions(self, table: pa.RecordBatch, outputs: npt.NDArray[Any]) -> pa.RecordBatch:
        values = predictions(self._signature, outputs)
        columns = {name: pa.array(value, from_pandas=True) for name, value in values.items() if name != "class_name"}
        if "class_name" in values:
            columns["class_name"] = pa.array(self._signature.class_names or (), pa.string()).take(columns["class"])
        added = [(name, columns[name]) for name in values]
        return pa.RecordBatch.from_arrays(
            [*table.columns, *(column for _, column in added)], [*table.schema.names, *(name for name, _ in added)]
        )


class _Writer:
    """Writes a Parquet file, a row group for each table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, table: pa.RecordBatch) -> None:
        if self._writer is None:
            # Numbers that were measured hardly repeat: dictionaries and compression cost more than all the rest.
            floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
            self._writer = pyarrow.parquet.ParquetWriter(
                self._path,
                table.schema,
                use_dictionary=["class_name"],
                compression={name: "none" if name in floats else "snappy" for name in table.schema.names},
            )
        self._writer.write_batch(table)

    def add(self, record: Record) -> None:
        assert self._writer is not None
        self._writer.add_key_value_metadata(record.to_metadata())


@contextlib.contextmanager
def _local(file: InputFile) -> Iterator[Path]:
    """Gives a path to read a file from."""
    if not is_remote(file.root):
        yield Path(file.location)
        return
    with tempfile.TemporaryDirectory(prefix="annlib-") as directory:
        path = Path(directory, PurePosixPath(file.name).name)
        try:
            insist(lambda: Remote(file.root).download(file.name, path))
        except FileNotFoundError:
            # As one on a disk, this is no reason to leave out the others.
            raise DataError(
                f"{file.location} is gone: expected the file that was listed, received none. Put it back, or leave it "
                "out."
            ) from None
        except OSError as error:
            raise StorageError(
                f"{file.location} cannot be read: expected an object store that answers, received {describe(error)}. "
                "Start the same command again when it does: finished files are kept."
            ) from None
        yield path
