"""`jobs/train.py digits` with a fault at a chosen moment: `python faulty.py FAULT MOMENT MARKER DRIVER_FLAGS...`.

The workload's `build_model`, which every worker calls, arms the fault: the first worker of the right rank that comes to
the moment makes the marker file and strikes. Once only, for the marker stays.

FAULT: kill-0, kill-1, stop-1, node, driver, sigterm, corrupt, truncate, drain, none; `wait` makes the marker and waits
until it is gone, so that the test itself can do what it wants meanwhile.
MOMENT: first-epoch, checkpoint, validation (one in many parts), evaluation, last-epoch, or never.
"""

import dataclasses
import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from annlib import run
from annlib.command import Parser, add_run_flags, given_values, run_command
from annlib.config import RunConfig, load_config
from annlib.training import callbacks, checkpoint
from annlib.workloads import find


def arm(fault: str, moment: str, marker: Path, driver: int, config: RunConfig) -> None:
    """Prepares the fault in this worker."""
    if moment == "validation":
        validate_step_by_step()
    rank = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    if rank != (1 if fault in ("kill-1", "stop-1", "node", "drain") else 0) or marker.exists():
        return

    def strike_once() -> None:
        if not marker.exists():
            marker.touch()
            strike(fault, marker, driver, config)

    if moment in ("first-epoch", "last-epoch"):
        epoch = 0 if moment == "first-epoch" else config.epochs - 1
        _before(callbacks.RunCallback, "on_train_batch_end", lambda self, batch: self._epoch == epoch, strike_once)
    elif moment == "validation":
        _before(callbacks.RunCallback, "on_test_batch_end", lambda self, batch: self._epoch == 1, strike_once)
    elif moment == "evaluation":
        calls = itertools.count()
        _before(keras.callbacks.CallbackList, "on_test_begin", lambda *_: next(calls) == 1, strike_once)
    elif moment == "checkpoint" and rank == 0:
        # The files are there under a temporary name, the manifest is not.
        original = checkpoint._manifest_sha256

        def manifest_sha256(manifest: dict[str, Any]) -> str:
            if "manifest_sha256" not in manifest:
                strike_once()
            return original(manifest)

        checkpoint._manifest_sha256 = manifest_sha256  # type: ignore[assignment]
    elif moment == "checkpoint":
        # Another rank goes on to the next collective while rank 0 writes.
        _before(callbacks.RunCallback, "_agree", lambda self, wants: wants[0] and self._epoch > 0, strike_once)


def validate_step_by_step() -> None:
    """Makes a part of each step of a validation, and the second epoch's take seconds."""
    session = importlib.import_module("annlib.training.engine.session")
    original = callbacks.RunCallback.on_test_batch_end

    def wait(self: Any, batch: int, logs: Any = None) -> None:
        time.sleep(0.1 if self._epoch == 1 else 0.0)
        original(self, batch, logs)

    session.evaluation_batch_size = lambda model, batch_size: 16
    session.Session._validation_parts = lambda self: [(i, i + 1) for i in range(self._num_validation_steps)]
    callbacks.RunCallback.on_test_batch_end = wait  # type: ignore[method-assign]


def _before(owner: type, name: str, condition: Callable[..., bool], strike_once: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def wrapped(self: Any, *arguments: Any, **options: Any) -> Any:
        if condition(self, *arguments[:1]):
            strike_once()
        return original(self, *arguments, **options)

    setattr(owner, name, wrapped)


def strike(fault: str, marker: Path, driver: int, config: RunConfig) -> None:
    """Does the damage, from within a worker."""
    if fault in ("kill-0", "kill-1"):
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "stop-1":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault == "node":
        # The parent of a worker is its node's raylet.
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    elif fault == "driver":
        os.kill(driver, signal.SIGKILL)
    elif fault == "sigterm":
        os.kill(driver, signal.SIGTERM)
    elif fault in ("corrupt", "truncate"):
        newest = max((config.run_path / "checkpoints").glob("epoch-*"))
        content = bytearray((newest / "state.npz").read_bytes())
        if fault == "corrupt":
            content[len(content) // 2] ^= 0xFF
        else:
            del content[len(content) // 2 :]
        (newest / "state.npz").write_bytes(content)
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault == "drain":
        import ray

        context = ray.get_runtime_context()
        deadline_ms = int(1000 * (time.time() + 20))
        ray._raylet.GcsClient(address=context.gcs_address).drain_node(context.get_node_id(), 2, "test", deadline_ms)
    elif fault == "wait":
        while marker.exists():
            time.sleep(0.05)
        marker.touch()
    else:
        raise ValueError(fault)


def main() -> int:
    fault, moment, marker = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    parser = Parser(prog="faulty.py")
    add_run_flags(parser)
    digits = find("digits")
    config = load_config(
        {"workload": "digits", **given_values(parser.parse_args(sys.argv[4:]))}, defaults=digits.defaults
    )
    driver = os.getpid()

    def build_model(data: Any, config: RunConfig) -> Any:
        arm(fault, moment, marker, driver, config)
        return digits.build_model(data, config)

    workload = dataclasses.replace(digits, build_model=build_model)
    return run_command(lambda: run.train(config, workload, console=Console(file=sys.stdout)))


if __name__ == "__main__":
    sys.exit(main())
