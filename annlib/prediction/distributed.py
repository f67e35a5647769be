"""Predicts files on a Ray cluster: Ray Data over the list of files, and a pool of actors that predict them.

A row of the data set is a file, not a sample: a file stays with one actor, which streams it, so that each output is
written and renamed as a whole, memory does not grow with the files, and no sample passes through Ray's object store.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray.data

from annlib.errors import AnnlibError, ClusterError
from annlib.garbage import collect_seldom
from annlib.prediction.inputs import InputFile
from annlib.prediction.predictor import Predictor, Result
from annlib.training.distributed import connection
from annlib.training.driver import output_to

# An actor that is lost is started again, and its file done again, this often. A file that ends every process which
# takes it, for want of memory say, shall not be tried for good.
MAX_RETRIES = 3


def predict(files: list[InputFile], run: str, model: str, output: str, *, num_workers: int) -> Iterator[Result]:
    """Yields what became of each file, as they are done.

    Args:
        files: the files, the first of them are begun first.
        run: as of `Predictor`, like `model` and `output`.
        model: `model_version` of the run.
        output: directory or URI that all nodes can write.
        num_workers: actors, of one CPU each.

    Raises:
        ClusterError: the cluster is too small, or the actors are lost again and again.
    """
    # Its messages are about itself; what the user has to know comes as a result or an error.
    with output_to(Path(os.devnull)), connection(num_workers=num_workers):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        rows = [dataclasses.asdict(file) for file in files]
        results = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,
            fn_constructor_kwargs={"run": run, "model": model, "output": output},
            # None waits behind a large file while another actor has nothing to do.
            compute=ray.data.ActorPoolStrategy(size=min(num_workers, len(files)), max_tasks_in_flight_per_actor=1),
            num_cpus=1,
            ray_remote_args_fn=lambda: {"max_restarts": MAX_RETRIES, "max_task_retries": MAX_RETRIES},
        )
        try:
            for row in results.iter_rows():
                yield Result(**row)
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"the workers were lost or failed: expected {num_workers} that answer, received "
                f"{_describe(error)}. Start the same command again: finished files are kept."
            ) from error


class _Actor:
    """A process of the pool."""

    def __init__(self, run: str, model: str, output: str) -> None:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        collect_seldom()
        import pyarrow

        from annlib.training.devices import use_threads

        # As many actors as CPUs: threads of one would take the CPU of another.
        use_threads(1)
        pyarrow.set_cpu_count(1)
        self._error = ""
        try:
            self._predictor = Predictor(run, model, output)
        except AnnlibError as error:
            # A message for the user, not a failure for Ray to try again.
            self._error = str(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        file = InputFile(**row)
        if self._error:
            result = Result(name=file.name, error=self._error, is_fatal=True)
        else:
            result = self._predictor.predict(file)
        return dataclasses.asdict(result)


def _describe(error: BaseException) -> str:
    """Returns the error of a worker in one line: the last but for what Ray adds of its own settings."""
    cause = error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
