"""The process that does trials for Ray Tune, one after another."""

import dataclasses
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import tune

from annlib import compilation_cache
from annlib.artifacts import RunDirectory
from annlib.data import Dataset
from annlib.errors import StorageError
from annlib.garbage import collect_seldom
from annlib.storage import is_remote
from annlib.training.distributed.mailbox import Mailbox
from annlib.training.distributed.shared_storage import SHARED_WITHIN_S, wait_until_shared
from annlib.training.own_code import Origin
from annlib.training.trial import TrialRecord, run_trial
from annlib.training.workload import Workload, receive_workload

logger = logging.getLogger(__name__)

# How often a process asks whether to stop, in seconds.
WATCH_EVERY_S = 0.2
# How often it gives a sign of life, in seconds.
SIGN_EVERY_S = 1.0


class TrialWorker(tune.Trainable):  # type: ignore[misc]  # Ray has no types
    """Does one trial after another. Ray Tune is told the scores at the rungs, and decides there."""

    # What Ray Tune was told last of the trial.
    _asked: TrialRecord | None

    def setup(
        self,
        config: dict[str, Any],
        *,
        configs: list[dict[str, Any]],
        hparams: list[dict[str, Any]],
        workload: Workload | Origin,
        rungs: list[int],
        mailbox: Mailbox,
        trials_per_process: int,
    ) -> None:
        """Begins the first trial of this process; called by Ray Tune, with what all trials have in common."""
        collect_seldom()
        self._trials_left = trials_per_process
        self._is_spent = False
        # A module of the user's own may run operations, after which TensorFlow takes neither.
        _prepare_tensorflow(cpus=configs[0]["cpus_per_worker"], use_gpu=configs[0]["use_gpu"])
        self._workload = receive_workload(workload)
        self._configs = [self._workload.config_class.model_validate(values) for values in configs]
        self._hparams = hparams
        self._rungs = rungs
        self._mailbox = mailbox
        self._data: Dataset | None = None
        self._check_storage(self._configs[0].storage)
        threading.Thread(target=self._give_signs, daemon=True).start()
        self._begin(config["number"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leaves a trial and begins another one."""
        self._leave()
        if self._trials_left > 0:
            self._begin(new_config["number"])
        else:
            self._is_spent = True
        return True

    def step(self) -> dict[str, Any]:
        """Goes on until the next rung, or the end."""
        if self._is_spent:
            # Ray Tune starts a trial again whose process ends here, but not one whose process ends in `reset_config`.
            ray.actor.exit_actor()
        # The thread waits for a decision since the step before.
        if self._asked is not None and self._asked.state == "running":
            self._decisions.put(not self._mailbox.is_set(halt_flag(self._asked)))
        record = self._reports.get()
        if isinstance(record, BaseException):
            raise record
        self._asked = record
        # Ray Tune wants a number of every trial; one that is not a number never stops others.
        score = float("nan") if record.score is None else record.score
        is_done = record.state not in ("running", "replayed")
        return {"epoch": record.epochs, "score": score, "record": record, "done": is_done}

    def cleanup(self) -> None:
        """Leaves the last trial."""
        self._leave()

    def _begin(self, number: int) -> None:
        self._trials_left -= 1
        self._asked = None
        self._reports: queue.Queue[TrialRecord | BaseException] = queue.Queue()
        self._decisions: queue.Queue[bool] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(number,), daemon=True)
        self._thread.start()

    def _check_storage(self, storage: str) -> None:
        if is_remote(storage):
            return
        try:
            place = f"a trial on node {socket.gethostname()}"
            wait_until_shared(RunDirectory(Path(storage)), self._mailbox, place, patience_s=SHARED_WITHIN_S)
        except StorageError as error:
            # No trial can be done here, which Ray Tune would try again.
            self._mailbox.post("error", message=str(error))
            raise

    def _give_signs(self) -> None:
        name = sign_of(ray.get_runtime_context().get_actor_id())
        while True:
            self._mailbox.put(name, {"time": time.time()})
            time.sleep(SIGN_EVERY_S)

    def _run(self, number: int) -> None:
        try:
            record = run_trial(
                number,
                self._configs[number],
                dataclasses.replace(self._workload, load_data=self._load_data),
                hparams=self._hparams[number],
                # After the last one there is nothing to decide.
                rungs=self._rungs[:-1],
                go_on=self._ask,
                stop_requested=stop_asked(self._mailbox),
            )
            self._reports.put(record)
        except BaseException as error:
            logger.exception("trial %d failed", number)
            self._reports.put(error)

    def _load_data(self, *_: Any) -> Dataset:
        """Returns the data set, which all trials have in common."""
        if self._data is None:
            self._data = self._workload.load(self._configs[0])
        return self._data

    def _ask(self, record: TrialRecord) -> bool:
        self._reports.put(record)
        return record.state == "replayed" or self._decisions.get()

    def _leave(self) -> None:
        """Lets the thread leave a checkpoint, for all shall stop; that of a trial that has ended is done."""
        self._decisions.put(True)
        self._thread.join()


def _prepare_tensorflow(*, cpus: int, use_gpu: bool) -> None:
    compilation_cache.enable()
    from annlib.training.devices import prepare_gpus, use_threads

    use_threads(cpus, use_gpu=use_gpu)
    prepare_gpus(given=use_gpu)


def sign_of(actor_id: str) -> str:
    """Returns the name of the value that a process changes while it lives."""
    return f"sign-{actor_id}"


def halt_flag(record: TrialRecord) -> str:
    """Returns the name of the flag that ends a trial early, at the rung of this record."""
    return f"halt-{record.number}-{record.epochs}"


def stop_asked(mailbox: Mailbox) -> Callable[[], bool]:
    """Returns what tells whether all trials shall stop; it asks the cluster now and then only."""
    asked_at, answer = float("-inf"), False

    def is_asked() -> bool:
        nonlocal asked_at, answer
        if not answer and time.monotonic() - asked_at >= WATCH_EVERY_S:
            asked_at, answer = time.monotonic(), mailbox.is_set("stop")
        return answer

    return is_asked
