"""What a worker has around it: the same in a local process and on Ray."""

import dataclasses
from collections.abc import Callable
from typing import Any

from annlib.data import Dataset


def nothing(*arguments: Any) -> None:
    """Does nothing: what is called where there is nothing to do."""


def _never() -> bool:
    return False


def _load(load: Callable[[], Dataset]) -> Dataset:
    return load()


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a worker has around it.

    Args:
        rank: this worker's number, from 0; rank 0 writes the files.
        strategy: distributes the steps; TensorFlow's default strategy in a local run.
        load_once: returns the data set that a function loads, once for all workers of a node.
        stop_requested: tells whether to stop at the next step, with a checkpoint. Only rank 0 is asked, as below.
        end_requested: tells after each epoch whether the training ends there, as a finished one. Only rank 0 is asked.
        save_requested: tells whether to write a checkpoint at the next step.
        check_storage: raises StorageError when the storage has been away for too long.
        flush_storage: returns when everything is on the storage; raises StorageError as well.
        fetch_storage: fetches what is on the storage by now; raises StorageError as well.
        on_saved: called after each checkpoint.
        on_begin: called when the first steps have run.
        on_row: called on rank 0 with each new row of the history.
    """

    rank: int
    strategy: Any
    load_once: Callable[[Callable[[], Dataset]], Dataset] = _load
    stop_requested: Callable[[], bool] = _never
    end_requested: Callable[[], bool] = _never
    save_requested: Callable[[], bool] = _never
    check_storage: Callable[[], None] = nothing
    flush_storage: Callable[[], None] = nothing
    fetch_storage: Callable[[], None] = nothing
    on_saved: Callable[[], None] = nothing
    on_begin: Callable[[], None] = nothing
    on_row: Callable[[dict[str, Any]], None] = nothing
