"""Runs `train_worker` on Ray Train's workers. The only module that imports ray."""

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.exceptions import RayActorError
from ray.train import CheckpointConfig, FailureConfig, ScalingConfig, UserCallback
from ray.train.tensorflow import TensorflowTrainer

from annlib.artifacts import RunDirectory, write_atomically
from annlib.config import RunConfig
from annlib.errors import AnnlibError, ClusterError, TrainingError
from annlib.training import attempts
from annlib.training.workload import Workload

logger = logging.getLogger(__name__)

# How often the driver looks at the history file, in seconds.
POLL_S = 0.3
# What Ray Train writes into the run directory: a probe, and its list of the checkpoints of earlier starts. annlib's
# manifests are what a run resumes from, and some of the checkpoints that Ray lists are deleted by then.
_RAY_FILES = (".validate_storage_marker", "checkpoint_manager_snapshot.json")
_RESULT_FILE = ".result.json"


@contextlib.contextmanager
def cluster(config: RunConfig) -> Iterator[None]:
    """Connects to the running Ray cluster, or starts one in this machine, and checks that it is large enough.

    Raises:
        ClusterError: there are too few CPUs or GPUs for the workers.
    """
    started = not ray.is_initialized()
    if started:
        # Ray Train polls its workers this often: with the default of 2 s no run takes less than some multiple of it.
        os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")
        _initialize()
    try:
        resources = ray.cluster_resources()
        _check_size(config, resources)
        yield
    finally:
        if started:
            ray.shutdown()


def _initialize() -> None:
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.WARNING,
        "runtime_env": {"env_vars": {"PYTHONPATH": path}},
    }
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**options)
        return
    try:
        ray.init(address="auto", **options)
    except ConnectionError:
        # No cluster runs here. Loopback and no dashboard: nobody else shall reach what runs for this command only.
        ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)


def _check_size(config: RunConfig, resources: dict[str, float]) -> None:
    needs = {"CPU": config.num_workers * config.cpus_per_worker, "GPU": config.num_workers if config.use_gpu else 0}
    for kind, needed in needs.items():
        available = int(resources.get(kind, 0))
        if needed > available:
            raise ClusterError(
                f"the Ray cluster has {available} {kind}s: {config.num_workers} workers need {needed}. Give a smaller "
                "--num-workers, or add nodes to the cluster."
            )


def train(
    config: RunConfig, workload: Workload, *, follow: Callable[[], None], stop_requested: Callable[[], bool]
) -> dict[str, Any]:
    """Trains on the connected cluster.

    Args:
        config: a configuration with `num_workers` of 1 or more.
        workload: what to train.
        follow: called every `POLL_S` while the workers train, to show what they have written.
        stop_requested: tells whether the workers shall stop after the epoch they are in, with a checkpoint.

    Returns:
        What `train_worker` returns on rank 0.

    Raises:
        AnnlibError: as the workers raised it.
        TrainingError: a worker failed in another way.
    """
    run = RunDirectory(config.run_path)
    result_file = run.path / _RESULT_FILE
    result_file.unlink(missing_ok=True)
    _remove_ray_files(run)
    run.attempts.unlink(missing_ok=True)
    trainer = TensorflowTrainer(
        _train_loop,
        train_loop_config={"config": config.model_dump(mode="json"), "workload": workload},
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": config.cpus_per_worker, **({"GPU": 1} if config.use_gpu else {})},
        ),
        run_config=ray.train.RunConfig(
            # Ray registers the checkpoints where they are, which have to be below its own directory.
            name=run.path.name,
            storage_path=str(run.path.parent),
            checkpoint_config=CheckpointConfig(),
            failure_config=FailureConfig(max_failures=config.max_failures),
            callbacks=[_NoteFailures(run)],
        ),
    )
    failures: list[BaseException] = []
    # Ray's own handler of Ctrl-C, set by a `fit` in the main thread, ends the workers without a checkpoint.
    thread = threading.Thread(target=_fit, args=(trainer, failures), daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_S)
            follow()
            if stop_requested():
                run.stop_request.touch()
    finally:
        _remove_ray_files(run)
        run.stop_request.unlink(missing_ok=True)
    if result_file.exists():
        result: dict[str, Any] = json.loads(result_file.read_text())
        result_file.unlink()
        if "error" in result:
            error = AnnlibError(result["error"])
            error.exit_code = result["exit_code"]
            raise error
        return result
    raise TrainingError(f"{_describe(failures)}. The whole log is in {run.log}.")


class _NoteFailures(UserCallback):  # type: ignore[misc]  # Ray has no types that mypy can use
    """Runs in Ray Train's controller."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        attempts.note(self._run, "failure", cause=_describe_ranks(worker_exceptions))


def _remove_ray_files(run: RunDirectory) -> None:
    for name in _RAY_FILES:
        (run.path / name).unlink(missing_ok=True)


def _describe(failures: list[BaseException]) -> str:
    """Returns the first failed worker's error in one line, without the traceback, which is in the log."""
    if not failures:
        return "the Ray workers left no result"
    by_rank = getattr(failures[0], "worker_failures", None)
    if by_rank:
        return _describe_ranks(by_rank)
    return f"Ray Train failed: {type(failures[0]).__name__}: {' '.join(str(failures[0]).split())[:400]}"


def _describe_ranks(errors: Mapping[int, BaseException]) -> str:
    """Returns which ranks failed, and in one line how the first of them did."""
    # A lost process is the cause; the other ranks' errors are its consequences.
    lost = sorted(rank for rank, error in errors.items() if _is_lost(error))
    if lost:
        return f"the process of rank {', '.join(map(str, lost))} was lost"
    rank, error = min(errors.items())
    # Ray's message of a worker's exception is the traceback, whose last line is the exception itself.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"rank {rank} failed: {lines[-1] if lines else type(error).__name__}"


def _is_lost(error: BaseException) -> bool:
    return isinstance(getattr(error, "health_check_failure", error), RayActorError)


def _fit(trainer: TensorflowTrainer, failures: list[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:
        logger.exception("Ray Train failed")
        failures.append(error)


def _train_loop(arguments: dict[str, Any]) -> None:
    """Runs on each worker."""
    config = RunConfig.model_validate(arguments["config"])
    rank = ray.train.get_context().get_world_rank()
    run = RunDirectory(config.run_path)
    _log_to(run.log, rank)

    import tensorflow as tf

    from annlib.training.worker import WorkerContext, train_worker

    tf.config.threading.set_intra_op_parallelism_threads(config.cpus_per_worker)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
    context = WorkerContext(
        rank=rank,
        strategy=tf.distribute.MultiWorkerMirroredStrategy(),
        report=_report,
        stop_requested=lambda: rank == 0 and run.stop_request.exists(),
        on_row=_note_first_row(run),
    )
    try:
        result = train_worker(config, arguments["workload"], context)
    except AnnlibError as error:
        # Every rank meets the same error: a message for the user, not a failure for Ray to try again.
        result = {"error": str(error), "exit_code": error.exit_code}
    except (tf.errors.OpError, ConnectionError):
        # Another worker was lost in the middle of a collective: Ray starts all of them again.
        raise
    except Exception as error:
        # A bug, or bad data, which would fail in the same way every time.
        logger.exception("the worker failed")
        cause = f"rank {rank} failed: {type(error).__name__}: {error}. The traceback is in {run.log}."
        result = {"error": cause, "exit_code": TrainingError.exit_code}
        write_atomically(run.path / _RESULT_FILE, json.dumps(result).encode())
        return
    if rank == 0:
        write_atomically(run.path / _RESULT_FILE, json.dumps(result).encode())


def _note_first_row(run: RunDirectory) -> Callable[[dict[str, Any]], None]:
    noted = False

    def on_row(row: dict[str, Any]) -> None:
        nonlocal noted
        if not noted:
            world_size = ray.train.get_context().get_world_size()
            attempts.note(run, "training", epoch=row["epoch"], world_size=world_size)
            noted = True

    return on_row


def _report(metrics: dict[str, Any], path: Path | None) -> None:
    checkpoint = None if path is None else ray.train.Checkpoint.from_directory(str(path))
    # The checkpoint is on the run's storage already.
    ray.train.report(metrics, checkpoint=checkpoint, checkpoint_upload_mode=ray.train.CheckpointUploadMode.NO_UPLOAD)


def _log_to(path: Path, rank: int) -> None:
    """Sends this process' log lines, and what TensorFlow writes to the error stream, to the run's log."""
    file = path.open("a", buffering=1)
    os.dup2(file.fileno(), 2)
    handler = logging.StreamHandler(file)
    place = f"{path.parent.name} rank {rank} node {socket.gethostname()}"
    handler.setFormatter(logging.Formatter(f"%(asctime)s {place} %(levelname)s %(name)s: %(message)s"))
    # Not the root logger: Ray's and TensorFlow's own handlers write to the error stream, and so to the file, already.
    annlib_logger = logging.getLogger("annlib")
    annlib_logger.addHandler(handler)
    annlib_logger.setLevel(logging.INFO)
