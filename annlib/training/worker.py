"""The story of one worker: data, model, restore, fit, evaluate. The same in a local process and on Ray."""

import dataclasses
import logging
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.data import Dataset, Split
from annlib.training import checkpoint
from annlib.training.callbacks import RunCallback
from annlib.training.engine import evaluate, fit
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
        {"interrupted": bool, "seconds": float, "samples_per_s": float, "metrics": {split: {name: value}}}; the
        metrics are missing after an interruption.
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
    callback = _fit(model, data, config, context, run, progress)
    seconds = time.perf_counter() - started
    num_samples = len(data.train) * (len(callback.rows) - progress.epoch)
    result: dict[str, Any] = {
        "interrupted": callback.interrupted,
        "seconds": seconds,
        "samples_per_s": num_samples / seconds,
    }
    if callback.interrupted:
        return result
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    result["metrics"] = {name: _evaluate(model, split, config) for name, split in splits.items()}
    if context.rank == 0:
        _save_model(model, run)
    return result


def _fit(
    model: keras.Model,
    data: Dataset,
    config: RunConfig,
    context: WorkerContext,
    run: RunDirectory,
    progress: checkpoint.Progress,
) -> RunCallback:
    callback = RunCallback(
        run,
        progress,
        num_samples=len(data.train),
        epochs=config.epochs,
        checkpoint_every_s=config.checkpoint_every_s,
        is_chief=context.rank == 0,
        report=context.report,
        stop_requested=context.stop_requested,
        on_row=context.on_row,
    )
    callbacks: list[keras.callbacks.Callback] = [callback]
    if context.rank == 0:
        callbacks.append(keras.callbacks.TensorBoard(run.tensorboard, write_graph=False))
    fit(
        model,
        data.train.x,
        data.train.y,
        batch_size=config.global_batch_size,
        epochs=config.epochs,
        initial_epoch=min(progress.epoch, config.epochs),
        validation_data=(data.validation.x, data.validation.y),
        callbacks=callbacks,
        seed=config.seed,
        verbose=0,
    )
    return callback


def _evaluate(model: keras.Model, split: Split, config: RunConfig) -> dict[str, float]:
    metrics: dict[str, float] = evaluate(
        model, split.x, split.y, batch_size=max(config.global_batch_size, 256), return_dict=True
    )
    return metrics


def _save_model(model: keras.Model, run: RunDirectory) -> None:
    temporary = run.path / ".model.tmp.keras"
    model.save(temporary)
    temporary.replace(run.model)


def default_strategy() -> Any:
    """Returns the strategy of one process and one device."""
    return tf.distribute.get_strategy()
