"""One run from its configuration to its last file: what `jobs/train.py` calls."""

import contextlib
import itertools
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from annlib import compilation_cache, results
from annlib.artifacts import RunDirectory, write_atomically
from annlib.config import RunConfig
from annlib.errors import AnnlibError, ClusterError, ConfigError, StorageError, TrainingError, last_line
from annlib.reporting.report import write_report
from annlib.reporting.terminal import RunDisplay, metrics_table, print_line
from annlib.storage import is_remote
from annlib.training import checkpoint
from annlib.training.driver import EXIT_SIGNAL, Signals, collect_signals, log_to, output_to
from annlib.training.final_metrics import final_metrics
from annlib.training.follower import Follower
from annlib.training.precision import check_precision
from annlib.training.run_storage import RunStorage, errors_of_storage, open_run_storage
from annlib.training.storage_news import storage_news
from annlib.training.workload import Workload

logger = logging.getLogger(__name__)


# What the metrics of every finished run have.
_OF_METRICS = {"train", "validation", "test", "epochs", "stopped_early", "best", "seconds", "samples_per_s"}


def train(config: RunConfig, workload: Workload, *, console: Console) -> int:
    """Trains a workload and leaves everything in the run directory.

    Args:
        config: the whole configuration.
        workload: what to train.
        console: where progress and results are printed; the last line is the run directory. Its file is given, for
            what others print to `sys.stdout` meanwhile goes to the log.

    Returns:
        The exit code: 0; 130 after Ctrl-C, 143 after SIGTERM and 129 after SIGHUP, when a checkpoint was left.

    Raises:
        AnnlibError: bad input, before anything was written; or training could not go on.
    """
    config = workload.settled(config)
    with (
        errors_of_storage(config),
        collect_signals(console) as signals,
        storage_news(lambda line: print_line(console, line)),
        open_run_storage(config) as storage,
    ):
        return _train(config, workload, storage, signals, console)


def _train(config: RunConfig, workload: Workload, storage: RunStorage, signals: Signals, console: Console) -> int:
    run = storage.run
    # Before the run directory exists or changes, so that bad input leaves nothing behind.
    for file, kind in ((run.search, "a search"), (run.trial, "a trial of a search")):
        if file.exists():
            raise ConfigError(
                f"{config.location} is {kind}, no run: expected a new name or that of a run, received one that "
                "jobs/tune.py made. Give another --name."
            )
    with console.status("reading the data"):
        data = workload.load(config)
    resumed, damaged = checkpoint.find_resumable(run.checkpoints, checkpoint.identity(config, data))
    finished = run.read_metrics()
    # Its history may be longer: that of a run that was started again with more epochs, and has not come to its end.
    if finished is not None and (lost := _OF_METRICS - finished.keys()):
        raise StorageError(
            f"metrics.json of {config.location} is damaged: expected that of a finished run, received none of "
            f"{', '.join(sorted(lost))}. Remove it to finish the run again."
        )
    num_done = finished["epochs"] if finished is not None else 0
    if finished is not None and (num_done >= config.epochs or finished["stopped_early"]):
        if not run.report.exists():
            write_report(run, workload_description=workload.description, config_class=workload.config_class)
        console.print(f"run {config.name} is finished: {num_done} epochs are done", highlight=False)
        _print_metrics(console, finished)
        print_line(console, config.location)
        return 0
    notes = data.notes
    for note in notes:
        print_line(console, note)
    del data
    for path in damaged:
        print_line(console, f"checkpoint {path} is damaged and is passed over")
    if resumed is not None:
        console.print(f"resuming after {resumed}", highlight=False)
    elif damaged:
        console.print("no sound checkpoint is left: the run starts from the beginning", highlight=False)
    with contextlib.ExitStack() as stack:
        if not config.uses_ray:
            _prepare_devices(config)
        else:
            # Ray's messages have no run directory yet.
            with output_to(Path(os.devnull)):
                from annlib.training import distributed

                stack.enter_context(distributed.cluster(config))
        config, run = _with_free_name(config, run)
        stack.enter_context(_nothing_left_by_bad_input(run))
        run.create()
        stack.enter_context(run.claim(config.location))
        if run.read_metrics() != finished:
            raise StorageError(
                f"the run {config.location} has just been finished by another process: expected none that trains it. "
                "Start the same command again to see what it has."
            )
        # Workers write to the same file.
        stack.enter_context(output_to(run.log, place="driver" if config.uses_ray else None))
        stack.enter_context(log_to(run.log))
        write_atomically(run.config, config.to_yaml().encode())
        signals.phase = "training"
        results.import_ahead()
        with RunDisplay(console, epochs=config.epochs, metrics=workload.metrics) as display:
            if config.uses_ray:
                result = _train_on_ray(config, workload, run, storage, display, signals, console)
            else:
                result = _train_here(config, workload, storage, display, signals)
        signals.phase = "ending"
        return _finish(config, workload, run, {**result, "notes": notes}, signals, console)


@contextlib.contextmanager
def _nothing_left_by_bad_input(run: RunDirectory) -> Iterator[None]:
    """Removes a new run directory without a checkpoint; where code failed, it has the traceback in its log."""
    existed = run.path.exists()
    try:
        yield
    except ConfigError as error:
        if not existed and error.__cause__ is None and not any(run.checkpoints.glob("*")):
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def _with_free_name(config: RunConfig, run: RunDirectory) -> tuple[RunConfig, RunDirectory]:
    """Numbers the default name of a run, the time, where another run has begun in the same second."""
    if "name" in config.model_fields_set or is_remote(config.storage):
        return config, run
    name, numbers = config.name, itertools.count(2)
    while run.path.exists():
        config = config.model_copy(update={"name": f"{name}-{next(numbers)}"})
        run = RunDirectory(config.run_path)
    return config, run


def _prepare_devices(config: RunConfig) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    compilation_cache.enable()
    with output_to(Path(os.devnull)):
        from annlib.training.devices import prepare_gpus

        has_gpu = prepare_gpus(given=True)
    if config.use_gpu and not has_gpu:
        raise ClusterError("--use-gpu needs a GPU: TensorFlow sees none here. Leave it out, or install annlib[gpu].")
    check_precision(config.precision)


def _train_here(
    config: RunConfig, workload: Workload, storage: RunStorage, display: RunDisplay, signals: Signals
) -> dict[str, Any]:
    import tensorflow as tf

    from annlib.training.context import WorkerContext
    from annlib.training.worker import train_worker

    context = WorkerContext(
        rank=0,
        strategy=tf.distribute.get_strategy(),
        stop_requested=lambda: bool(signals.received),
        check_storage=storage.check,
        flush_storage=storage.flush,
        on_row=display.show,
    )
    try:
        return train_worker(config, workload, context)
    except Exception as error:
        # Numbers that do not fit the model, or no memory; a model of the user's own can raise anything.
        is_tensorflows = isinstance(error, tf.errors.OpError)
        if not is_tensorflows and (workload.origin is None or isinstance(error, AnnlibError | OSError)):
            raise
        logger.exception("the training failed")
        kind = "" if is_tensorflows else f"{type(error).__name__}: "
        raise TrainingError(
            f"the training failed: {kind}{last_line(error)}. The traceback is in run.log of {config.location}."
        ) from None


def _train_on_ray(
    config: RunConfig,
    workload: Workload,
    run: RunDirectory,
    storage: RunStorage,
    display: RunDisplay,
    signals: Signals,
    console: Console,
) -> dict[str, Any]:
    from annlib.training import attempts, distributed

    follower = Follower(run, display, console)
    attempts.note(run, {"event": "start", "time": time.time()})
    result = distributed.train(
        config, workload, on_message=follower.take, stop_requested=lambda: bool(signals.received)
    )
    storage.refresh()
    return {**result, **attempts.summary(attempts.read(run))}


def _finish(
    config: RunConfig,
    workload: Workload,
    run: RunDirectory,
    result: dict[str, Any],
    signals: Signals,
    console: Console,
) -> int:
    if result["interrupted"]:
        # On Ray it may come while the workers start.
        when = f"after {result['progress']} of {config.epochs}" if result["progress"] else "before the training"
        console.print(
            f"interrupted {when}; the same command with --name {config.name} goes on",
            highlight=False,
            soft_wrap=True,
        )
        print_line(console, config.location)
        return EXIT_SIGNAL + signals.received[0]
    if result["loading_problem"]:
        print_line(
            console,
            f"this model will not be loaded again: {result['loading_problem']} A class needs "
            "@keras.saving.register_keras_serializable() and a get_config.",
        )
    metrics = final_metrics(config, result)
    # Before the pictures, which take longer than many a training.
    _print_metrics(console, metrics)
    pictures = results.draw_pictures(run, config, workload)
    results.write_tensorboard(run, config, pictures, result["metrics"])
    # A run with this file is a finished one; the report reads it.
    write_atomically(run.metrics, json.dumps(metrics, indent=2).encode())
    write_report(run, workload_description=workload.description, config_class=workload.config_class)
    run.remove_leftovers()
    print_line(console, config.location)
    return 0


def _print_metrics(console: Console, metrics: dict[str, Any]) -> None:
    if metrics["stopped_early"]:
        best = metrics["best"]["epoch"]
        console.print(
            f"stopped early after {metrics['epochs']} epochs, with the weights of epoch {best}", highlight=False
        )
    console.print(metrics_table({split: metrics[split] for split in ("train", "validation", "test")}))
    peak = f", peak memory {decimal(metrics['peak_memory_bytes'])}" if "peak_memory_bytes" in metrics else ""
    speed = f"{metrics['samples_per_s']:,.0f} samples/s"
    console.print(f"trained in {metrics['seconds']:.1f} s, {speed}{peak}", highlight=False, soft_wrap=True)
