"""Several plain processes, or several devices of one, train a model as one process of `keras.Model.fit` does."""

import functools
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("engine_worker.py")
REPOSITORY = Path(__file__).parents[2]
BATCH_SIZE = 16
TIMEOUT_S = 240
TOLERANCE = 1e-5

_spec = importlib.util.spec_from_file_location("engine_worker", PROGRAM)
assert _spec is not None
assert _spec.loader is not None
worker: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(worker)


class Outcome(NamedTuple):
    found: dict[str, Any]
    weights: dict[str, list[np.ndarray]]


class Reference(NamedTuple):
    history: dict[str, list[float]]
    weights: list[np.ndarray]


@functools.cache
def reference(name: str) -> Reference:
    model = worker.compiled(worker.CASES[name])
    history = model.fit(**worker.arguments(worker.CASES[name], BATCH_SIZE))
    return Reference(history.history, model.get_weights())


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def run_processes(directory: Path, kind: str, count: int, names: list[str]) -> list[Outcome]:
    """Starts the processes, waits for all, and stops those that are left when one fails or time is up."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    processes, logs, outs = [], [], []
    try:
        for index in range(count):
            environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
            environment |= {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, [str(REPOSITORY), environment.get("PYTHONPATH", "")])
            )
            if kind == "multi":
                task = {"type": "worker", "index": index}
                environment["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})
            outs.append(directory / f"{index}.npz")
            logs.append(directory / f"{index}.log")
            with logs[-1].open("w") as log:
                command = [sys.executable, str(PROGRAM), str(outs[-1]), kind, str(BATCH_SIZE), *names]
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + TIMEOUT_S
        while any(process.poll() is None for process in processes):
            failed = any(process.poll() not in (None, 0) for process in processes)
            if failed or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=20)
    for process, log in zip(processes, logs, strict=True):
        assert process.returncode == 0, f"{kind} x {count}: exit {process.returncode}\n{log.read_text()[-3000:]}"
    return [read(out) for out in outs]


def read(path: Path) -> Outcome:
    with np.load(path) as saved:
        weights: dict[str, list[np.ndarray]] = {}
        for key in saved.files:
            if "/" in key:
                weights.setdefault(key.rsplit("/", 1)[0], []).append(saved[key])
        return Outcome(json.loads(str(saved["found"])), weights)


WORLDS: dict[str, tuple[str, int, int]] = {
    "2_workers": ("multi", 2, 2),
    "3_workers": ("multi", 3, 3),
    "2_devices": ("mirrored", 1, 2),
}


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[Outcome]]:
    """Starts the processes of one world once, with the cases of all tests that were selected."""

    @functools.cache
    def started(world: str) -> list[Outcome] | Exception | AssertionError:
        kind, processes, _ = WORLDS[world]
        selected = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
        wanted = {params.get("name") for params in selected if params.get("world") == world}
        names = [name for name in worker.ALL_CASES if name in wanted]
        try:
            return run_processes(tmp_path_factory.mktemp(world), kind, processes, names)
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            return error  # the other tests of this world fail at once instead of starting it again

    def get(world: str) -> list[Outcome]:
        found = started(world)
        if isinstance(found, BaseException):
            raise found
        return found

    return get


every_world = pytest.mark.parametrize(
    "world", [pytest.param(name, marks=() if name == "2_workers" else pytest.mark.slow) for name in WORLDS]
)
# Each takes the processes some seconds.
SLOW = {"adam-clipnorm", "last_batch_of_one_row", "embedded", "accumulated", "accumulated-weights"}
SLOW |= {"bfloat16", "float16-embedded", "float16-wide", "sync_every-embedded", "sync_every-masked", "sync_every-adam"}


def parameters(name: str, *others: Any) -> Any:
    return pytest.param(name, *others, marks=pytest.mark.slow if name in SLOW else ())


every_case = pytest.mark.parametrize("name", [parameters(name) for name in worker.CASES])
Outcomes = Callable[[str], list[Outcome]]


@every_world
def test_all_replicas_take_part(outcomes: Outcomes, world: str) -> None:
    assert [outcome.found["replicas"] for outcome in outcomes(world)] == [WORLDS[world][2]] * WORLDS[world][1]


@every_case
@every_world
def test_history_is_that_of_one_keras_process(outcomes: Outcomes, world: str, name: str) -> None:
    expected = reference(name).history
    for outcome in outcomes(world):
        history = outcome.found["history"][name]
        assert list(history) == list(expected)
        for key, values in history.items():
            np.testing.assert_allclose(values, expected[key], rtol=TOLERANCE, err_msg=key)


@every_case
@every_world
def test_weights_are_those_of_one_keras_process(outcomes: Outcomes, world: str, name: str) -> None:
    for outcome in outcomes(world):
        for ours, theirs in zip(outcome.weights[name], reference(name).weights, strict=True):
            assert np.linalg.norm(ours - theirs) <= TOLERANCE * np.linalg.norm(theirs)


@pytest.mark.parametrize("name", ["wide"])
@every_world
def test_workers_exchange_factors_where_they_are_smaller(outcomes: Outcomes, world: str, name: str) -> None:
    # Of a kernel that is used for more than one product, the gradient is exchanged.
    expected = [[1, 6, 80], [1, 80, 3], [1, 80, 80], [16, 80, 80]]
    for outcome in outcomes(world):
        assert outcome.found["factors"][name] == (expected if WORLDS[world][0] == "multi" else [])


@pytest.mark.parametrize("name", [parameters(name) for name in worker.ALL_CASES])
@every_world
def test_all_workers_end_with_identical_weights(outcomes: Outcomes, world: str, name: str) -> None:
    first, *others = outcomes(world)
    for other in others:
        for ours, theirs in zip(first.weights[name], other.weights[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("name", "whole", "tolerance"),
    [
        parameters("float16", "sgd", 1e-3),
        parameters("bfloat16", "sgd", 1e-2),
        parameters("float16-embedded", "embedded", 1e-3),
        parameters("float16-wide", "wide", 1e-3),
    ],
)
@every_world
def test_compressed_gradients_change_the_curve_a_little(
    outcomes: Outcomes, world: str, name: str, whole: str, tolerance: float
) -> None:
    expected = reference(whole)
    for outcome in outcomes(world):
        losses = outcome.found["history"][name]["loss"]
        assert losses == pytest.approx(expected.history["loss"], rel=tolerance)
        weights = [np.linalg.norm(a - b) for a, b in zip(outcome.weights[name], expected.weights, strict=True)]
        # Otherwise nothing was compressed.
        assert max(weights) > 1e-6


@functools.cache
def local_sgd(name: str, num_replicas: int) -> list[np.ndarray]:
    """Returns the weights of replicas that Keras trains on their rows, and that are averaged every few steps."""
    case = worker.ALL_CASES[name]
    replicas = [worker.compiled(case) for _ in range(num_replicas)]
    x, y = worker.data(case)
    num_steps = -(-case.rows // BATCH_SIZE)
    for _ in range(worker.EPOCHS):
        for step in range(num_steps):
            rows = slice(step * BATCH_SIZE, (step + 1) * BATCH_SIZE)
            for rank, replica in enumerate(replicas):
                size = len(x[rows])
                own = slice(size * rank // num_replicas, size * (rank + 1) // num_replicas)
                replica.train_on_batch(x[rows][own], y[rows][own])
            if (step + 1) % case.options.sync_every == 0 or step + 1 == num_steps:
                groups = zip(
                    *(replica.variables + replica.optimizer.variables[2:] for replica in replicas), strict=True
                )
                for group in groups:
                    mean = np.mean([variable.numpy() for variable in group], axis=0)
                    for variable in group:
                        variable.assign(mean)
    return replicas[0].get_weights()


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        parameters("sync_every", "sgd"),
        parameters("sync_every-adam", "sgd"),
        parameters("sync_every-embedded", "embedded"),
        parameters("sync_every-masked", "masked"),
    ],
)
@every_world
def test_replicas_that_step_alone_are_averaged(outcomes: Outcomes, world: str, name: str, whole: str) -> None:
    expected = local_sgd(name, WORLDS[world][2])
    for outcome in outcomes(world):
        for ours, theirs in zip(outcome.weights[name], expected, strict=True):
            assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)
    assert not np.allclose(expected[0], reference(whole).weights[0], rtol=1e-3)


@every_case
@every_world
def test_evaluate_is_that_of_keras_with_the_final_weights(outcomes: Outcomes, world: str, name: str) -> None:
    case = worker.CASES[name]
    model = worker.compiled(case)
    for outcome in outcomes(world):
        model.set_weights(outcome.weights[name])
        parts = dict(zip(("x", "y", "sample_weight"), worker.data(case), strict=False))
        expected = model.evaluate(**parts, batch_size=10, verbose=0, return_dict=True)
        assert outcome.found["evaluate"][name] == pytest.approx(expected, rel=TOLERANCE)


@every_world
def test_one_worker_that_stops_stops_all(outcomes: Outcomes, world: str) -> None:
    assert {outcome.found["epochs_until_stopped"] for outcome in outcomes(world)} == {2}


@every_world
def test_gradient_accumulation_is_refused_in_one_clear_line(outcomes: Outcomes, world: str) -> None:
    for outcome in outcomes(world):
        message = outcome.found["accumulation"]
        assert "gradient_accumulation_steps=2" in message
        assert "larger global batch" in message
        assert "\n" not in message


@every_world
def test_a_train_step_of_ones_own_is_refused_in_one_clear_line(outcomes: Outcomes, world: str) -> None:
    for outcome in outcomes(world):
        message = outcome.found["own_step"]
        assert "OwnStep has a train_step of its own" in message
        assert "one process" in message
        assert "\n" not in message


@functools.cache
def callback_reference() -> tuple[dict[str, list[float]], list[np.ndarray]]:
    model = worker.compiled(worker.CASES["sgd"])
    model.optimizer.learning_rate = 0.5
    with tempfile.TemporaryDirectory() as directory:
        history = model.fit(**worker.callback_arguments(), callbacks=worker.make_callbacks(Path(directory)))
    return history.history, model.get_weights()


@every_world
def test_callbacks_change_the_training_as_in_one_keras_process(outcomes: Outcomes, world: str) -> None:
    expected, weights = callback_reference()
    assert len(expected["loss"]) < worker.callback_arguments()["epochs"]
    assert len(set(expected["learning_rate"])) > 1
    for outcome in outcomes(world):
        for key, values in outcome.found["callbacks"].items():
            np.testing.assert_allclose(values, expected[key], rtol=1e-4, err_msg=key)
        for ours, theirs in zip(outcome.weights["callbacks"], weights, strict=True):
            assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(theirs)


@every_world
def test_one_worker_writes_the_files_of_callbacks(outcomes: Outcomes, world: str) -> None:
    first, *others = (outcome.found["files"] for outcome in outcomes(world))
    assert first == ["best.keras", "log.csv"]
    assert others == [[]] * len(others)


@every_world
def test_backup_and_restore_is_refused_in_one_clear_line(outcomes: Outcomes, world: str) -> None:
    for outcome in outcomes(world):
        assert "BackupAndRestore does not work under a distribution strategy" in outcome.found["backup"]
        assert "\n" not in outcome.found["backup"]
