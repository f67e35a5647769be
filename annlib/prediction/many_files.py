"""Predictions of a finished run for any number of files, which goes on where it was broken off."""

import contextlib
import os
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from annlib.errors import AnnlibError, ConfigError, DataError
from annlib.loading import open_run
from annlib.prediction.inputs import InputFile, find_inputs, without_input
from annlib.prediction.output import REJECTED, Output, Record, model_version
from annlib.prediction.predictor import Predictor, Result
from annlib.reporting.terminal import print_line
from annlib.storage import check_storage, is_remote

# Between two lines of progress, in seconds.
LINE_EVERY_S = 2.0
# Files whose records are read at the same time: on an object store that is waiting.
NUM_READERS = 16
# Names of outputs that are left behind, in the line that tells of them.
NUM_SHOWN = 5
FILE_ENDINGS = (".csv", ".parquet", ".npy", ".png")


def predict_files(
    run: str,
    source: str,
    output: str,
    *,
    num_workers: int = 0,
    overwrite: bool = False,
    max_bad_rows: int | None = None,
    console: Console,
    error_console: Console,
) -> int:
    """Predicts all files of a glob or directory into Parquet files of the same relative paths.

    A file that was predicted before, with this model and as it is now, is not done again; one that has changed is.
    Rows that the model cannot take are set aside: `_rejected/` holds a CSV file of `file, row, reason` for each file
    with such rows. A file that is unreadable or lacks columns is told of and left out. Predictions of a file that is
    gone since are told of, and stay.

    Args:
        run: a finished run, a path or a URI.
        source: what to predict; `annlib.prediction.inputs.find_inputs` says in which forms.
        output: directory to write to, a path that all nodes share or a URI.
        num_workers: processes on a Ray cluster; 0 predicts in this process.
        overwrite: True does all files again, whatever is there.
        max_bad_rows: rows that may be set aside in all; None for any number.
        console: where progress and the result are printed; the last line is the output.
        error_console: where a line for each file that was left out is printed.

    Returns:
        The exit code: 2 where a file was left out, else 0.

    Raises:
        AnnlibError: bad input, before anything was written; or the storage or the cluster failed; or too many rows
            were set aside. Finished files are kept.
    """
    began = time.time()
    run, place = check_storage(run, name="the run"), check_storage(output, name="-o")
    if not is_remote(place) and (place.endswith(FILE_ENDINGS) or os.path.isfile(place)):
        raise ConfigError(
            f"{output} is a file: expected a directory for the predictions of several files, received the name of "
            "one. Give another -o."
        )
    directory = open_run(run)
    files = find_inputs(source, place)
    model = model_version(directory)
    target = Output(place)
    names = target.names()
    done, changed = ({}, []) if overwrite else _find_done(files, target, names, model)
    left_behind = _find_left_behind(files, target, names)
    target.create()
    left = [file for file in files if file.name not in done]
    print_line(console, f"{len(files):,} files, {len(done):,} of them done before, {len(changed):,} changed since")
    if left_behind:
        shown = ", ".join(left_behind[:NUM_SHOWN]) + (", ..." if len(left_behind) > NUM_SHOWN else "")
        what = f"predictions stay whose files are gone ({len(left_behind):,} in all)"
        print_line(console, f"{what}: {shown}. Remove what you do not want")
    tally = _Tally(files, done, max_bad_rows, console, error_console)
    try:
        # Closed after an error too: then Ray has ended, and the error stream is the terminal's again.
        with contextlib.closing(_results(left, run, model, place, num_workers)) as results:
            for result in results:
                tally.add(result)
    finally:
        tally.tell_failures()
    tally.tell_all(time.time() - began, place)
    return 2 if tally.failures else 0


def _find_done(
    files: list[InputFile], output: Output, names: set[str], model: str
) -> tuple[dict[str, Record], list[str]]:
    """Returns the records of the files that are done, by name, and the names of those that have changed since.

    Raises:
        ConfigError: a file of the output is of another model, or of something else.
    """
    there = [file for file in files if file.output_name in names]
    records = _read_records(output, [file.output_name for file in there])
    done, changed = {}, []
    for file, record in zip(there, records, strict=True):
        if record is None and output.is_cut_off(file.output_name):
            continue
        if record is None or record.model != model:
            what = "is not of this command" if record is None else "is of another model"
            raise ConfigError(
                f"{output.location}/{file.output_name} {what}: expected no file, or predictions of this run for "
                f"{file.name}, received another one. Give another -o, or --overwrite to do all files again."
            )
        if record.source == file.version:
            done[file.name] = record
        elif record.root in ("", file.root):
            changed.append(file.name)
        else:
            raise ConfigError(
                f"{output.location}/{file.output_name} is of another input: expected predictions of {file.location}, "
                f"received those of {record.root}/{file.name}. Give another -o, or --overwrite to replace them."
            )
    return done, changed


def _find_left_behind(files: list[InputFile], output: Output, names: set[str]) -> list[str]:
    """Returns the names of outputs of files that were in the directory of the input and are gone."""
    root = files[0].root
    others = names - {file.output_name for file in files}
    # Most others are of files that are there, where a part of a directory is given: records cost more to read.
    found = without_input(root, sorted(name for name in others if name.endswith(".parquet")))
    return [
        name for name, record in zip(found, _read_records(output, found), strict=True) if record and record.root == root
    ]


def _read_records(output: Output, names: list[str]) -> list[Record | None]:
    with ThreadPoolExecutor(NUM_READERS) as pool:
        return list(pool.map(output.record, names))


def _results(
    files: list[InputFile], run: str, model: str, output: str, num_workers: int
) -> Generator[Result, None, None]:
    if files and num_workers:
        from annlib.prediction import distributed

        yield from distributed.predict(files, run, model, output, num_workers=num_workers)
    elif files:
        yield from map(Predictor(run, model, output).predict, files)


class _Tally:
    """Adds up what became of the files, and tells of it."""

    def __init__(
        self,
        files: list[InputFile],
        done: dict[str, Record],
        max_bad_rows: int | None,
        console: Console,
        error_console: Console,
    ) -> None:
        self.failures: list[str] = []
        self._num_files = len(files)
        self._num_before = len(done)
        self._num_rejected = sum(record.num_rejected for record in done.values())
        self._max_bad_rows = max_bad_rows
        self._results: list[Result] = []
        self._console = console
        self._error_console = error_console
        self._last_line = time.monotonic()
        self._check_rejected()

    def add(self, result: Result) -> None:
        """Takes note of a file; raises AnnlibError where the others are not worth trying."""
        if result.is_fatal:
            raise AnnlibError(result.error)
        if result.error:
            self.failures.append(result.error)
            return
        self._results.append(result)
        if result.num_rejected:
            total = result.num_rows + result.num_rejected
            rows = f"{result.num_rejected:,} of {total:,} rows are set aside"
            print_line(self._console, f"{result.name}: {rows}, the first: {result.first_rejected}")
            self._num_rejected += result.num_rejected
            self._check_rejected()
        if time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            num_done = self._num_before + len(self._results) + len(self.failures)
            print_line(self._console, f"{num_done:,} of {self._num_files:,} files  {self._speed()}")

    def tell_failures(self) -> None:
        """Tells of the files that were left out, a line each."""
        for failure in self.failures:
            print_line(self._error_console, f"error: {' '.join(failure.split())}")
        if self.failures:
            print_line(self._error_console, f"error: {len(self.failures):,} of {self._num_files:,} files were left out")

    def tell_all(self, seconds: float, output: str) -> None:
        """Tells of all files."""
        num_rows = sum(result.num_rows for result in self._results)
        print_line(self._console, f"predicted {num_rows:,} rows of {len(self._results):,} files in {seconds:.1f} s")
        if num_rows:
            print_line(self._console, self._speed())
        if self._num_rejected:
            print_line(self._console, f"{self._num_rejected:,} rows are set aside, see {output}/{REJECTED}")
        print_line(self._console, output)

    def _check_rejected(self) -> None:
        if self._max_bad_rows is not None and self._num_rejected > self._max_bad_rows:
            raise DataError(
                f"too many rows are set aside: expected {self._max_bad_rows:,} at most, received "
                f"{self._num_rejected:,}. Correct the files, or give a larger --max-bad-rows: finished files are kept."
            )

    def _speed(self) -> str:
        begun = min(result.started for result in self._results)
        ended = max(result.started + result.seconds for result in self._results)
        num_rows = sum(result.num_rows for result in self._results)
        share = sum(result.model_s for result in self._results) / sum(result.seconds for result in self._results)
        return f"{num_rows / (ended - begun):,.0f} rows/s without start-up; {share:.0%} of the time is the model's"
