"""What `jobs/predict.py` calls: one file, or many."""

import time
from pathlib import Path

from rich.console import Console

from annlib.errors import ConfigError
from annlib.loading import open_run
from annlib.prediction.inputs import is_many
from annlib.prediction.many_files import predict_files
from annlib.prediction.one_file import predict_file
from annlib.reporting.terminal import print_line


def predict(
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
    """Predicts a file as `predict_file` does, or several as `predict_files` does; returns the exit code.

    Raises:
        AnnlibError: as they do; or an argument is of use for several files alone.
    """
    if is_many(source):
        return predict_files(
            run,
            source,
            output,
            num_workers=num_workers,
            overwrite=overwrite,
            max_bad_rows=max_bad_rows,
            console=console,
            error_console=error_console,
        )
    for flag, value in (("--num-workers", num_workers or None), ("--max-bad-rows", max_bad_rows)):
        if value is not None:
            raise ConfigError(
                f"{flag} is for several files: expected a glob, a directory of tables or a URI, received {source}, "
                "which is predicted as a whole or not at all. Leave the flag out."
            )
    began = time.perf_counter()
    num_samples = predict_file(open_run(run), Path(source), Path(output), overwrite=overwrite)
    console.print(f"predicted {num_samples:,} samples in {time.perf_counter() - began:.1f} s", highlight=False)
    print_line(console, str(Path(output).absolute()))
    return 0
