"""The story of one worker: data, model, restore, fit, evaluate. The same in a local process and on Ray."""

import dataclasses
import io
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from annlib.artifacts import RunDirectory, write_atomically
from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.reporting.diagram import model_summary, plot_model_diagram
from annlib.reporting.neurons import plot_decision_boundary
from annlib.signature import Signature
from annlib.training import checkpoint
from annlib.training.best import BestCheckpoint
from annlib.training.callbacks import RunCallback
from annlib.training.engine import evaluate, fit, predict
from annlib.training.tensorboard import TensorBoard
from annlib.training.workload import Workload

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """What a worker has around it.

    Args:
        rank: this worker's number, 0 to num_workers - 1; rank 0 writes the files.
        strategy: distributes the steps; TensorFlow's default strategy in a local run.
        report: tells the scheduler of a new checkpoint.
        stop_requested: tells whether the user asked to stop.
        on_row: called on rank 0 with each new row of the history.
    """

    rank: int
    strategy: Any
    report: Callable[[dict[str, Any], Any], None]
    stop_requested: Callable[[], bool]
    on_row: Callable[[dict[str, Any]], None]


def train_worker(config: RunConfig, workload: Workload, context: WorkerContext) -> dict[str, Any]:
    """Trains and evaluates the workload.

    Returns:
        {"interrupted": bool, "seconds": float, "samples_per_s": float, "epochs": int, "best": {"epoch": int, monitor:
        float}, "metrics": {split: {name: value}}}; the last three are missing after an interruption.
    """
    data = workload.load_data(config.data_dir)
    run = RunDirectory(config.run_path)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_floatx(config.precision)
    keras.config.set_dtype_policy(config.precision)
    with context.strategy.scope():
        model = workload.build_model(data, config)
        model.optimizer.build(model.trainable_variables)
    expected = checkpoint.identity(config, data)
    progress = checkpoint.restore(run.checkpoints, model, expected)
    if progress is None:
        progress = checkpoint.Progress(epoch=0, history=[], identity=expected)
    started = time.perf_counter()
    callback, best = _fit(model, data, workload, config, context, run, progress)
    seconds = time.perf_counter() - started
    num_samples = len(data.train) * (len(callback.rows) - progress.epoch)
    result: dict[str, Any] = {
        "interrupted": callback.interrupted,
        "seconds": seconds,
        "samples_per_s": num_samples / seconds,
    }
    if callback.interrupted:
        return result
    result["epochs"] = len(callback.rows)
    result["best"] = {"epoch": best.best_epoch, config.monitor: best.best}
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    signature = workload.signature(data)
    result["metrics"] = {
        name: _evaluate(model, signature.model_inputs(split.x), split.y, config) for name, split in splits.items()
    }
    if context.rank == 0:
        _save(model, run, config.formats)
        _describe(model, data, signature, run)
    return result


def _fit(
    model: keras.Model,
    data: Dataset,
    workload: Workload,
    config: RunConfig,
    context: WorkerContext,
    run: RunDirectory,
    progress: checkpoint.Progress,
) -> tuple[RunCallback, BestCheckpoint]:
    is_chief = context.rank == 0
    best = BestCheckpoint(
        run.checkpoints,
        monitor=config.monitor,
        mode=config.resolved_monitor_mode,
        every_s=config.checkpoint_every_s,
        is_chief=is_chief,
    )
    others = [best, *_callbacks_on_a_monitor(config)]
    model_inputs = workload.signature(data).model_inputs
    x, validation_x = model_inputs(data.train.x), model_inputs(data.validation.x)
    tensorboard = TensorBoard(run.tensorboard, x, histogram_freq=config.histogram_freq) if is_chief else None

    def on_row(row: dict[str, Any]) -> None:
        context.on_row(row)
        if tensorboard is not None:
            tensorboard.add(row)

    callback = RunCallback(
        run,
        progress,
        others=others,
        num_samples=len(data.train),
        epochs=config.epochs,
        checkpoint_every_s=config.checkpoint_every_s,
        keep=config.keep,
        is_chief=is_chief,
        report=context.report,
        stop_requested=context.stop_requested,
        on_row=on_row,
    )
    fit(
        model,
        x,
        data.train.y,
        batch_size=config.global_batch_size,
        epochs=config.epochs,
        # A run that a callback stopped does not go on.
        initial_epoch=config.epochs if progress.stopped else min(progress.epoch, config.epochs),
        validation_data=(validation_x, data.validation.y),
        callbacks=[*([] if tensorboard is None else [tensorboard]), *others, callback],
        seed=config.seed,
        verbose=0,
    )
    return callback, best


def _callbacks_on_a_monitor(config: RunConfig) -> list[keras.callbacks.Callback]:
    monitor = {"monitor": config.monitor, "mode": config.resolved_monitor_mode}
    callbacks: list[keras.callbacks.Callback] = []
    if config.reduce_lr_patience is not None:
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=config.reduce_lr_factor, patience=config.reduce_lr_patience, **monitor
            )
        )
    if config.early_stopping_patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(patience=config.early_stopping_patience, restore_best_weights=True, **monitor)
        )
    return callbacks


def _evaluate(model: keras.Model, x: Any, y: Any, config: RunConfig) -> dict[str, float]:
    metrics: dict[str, float] = evaluate(model, x, y, batch_size=max(config.global_batch_size, 256), return_dict=True)
    return metrics


def _save(model: keras.Model, run: RunDirectory, formats: Sequence[str]) -> None:
    for name in formats:
        path = run.model.with_suffix(f".{name}")
        temporary = run.path / f".model.tmp.{name}"
        model.save(temporary)
        temporary.replace(path)


def _describe(model: keras.Model, data: Dataset, signature: Signature, run: RunDirectory) -> None:
    """Writes what only the model can tell: what it takes and gives, its layers, predictions, decision boundary."""
    run.pictures.mkdir(exist_ok=True)
    write_atomically(run.signature, signature.to_json().encode())
    write_atomically(run.model_summary, model_summary(model).encode())
    if not plot_model_diagram(model, run.pictures / "model.png"):
        logger.info("no diagram of the model: it needs Graphviz (`dot`); the summary is in %s", run.model_summary)
    content = io.BytesIO()
    np.save(content, predict(model, signature.model_inputs(data.test.x)))
    write_atomically(run.predictions, content.getvalue())
    if data.class_names is not None and data.feature_names is not None and len(data.feature_names) == 2:
        plot_decision_boundary(
            data.train.x,
            data.train.y,
            lambda x: signature.classify(predict(model, np.asarray(x, dtype=np.float32)))[0],
            data.feature_names,
            data.class_names,
            run.pictures / "decision_boundary.png",
        )


def default_strategy() -> Any:
    """Returns the strategy of one process and one device."""
    return tf.distribute.get_strategy()
