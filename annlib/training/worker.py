"""The story of one worker: data, model, restore, fit, evaluate. The same in a local process and on Ray."""

import dataclasses
import functools
import io
import logging
from typing import Any

import keras
import numpy as np

from annlib import hdf5
from annlib.artifacts import RunDirectory, replacing, write_atomically
from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.data.columns import Columns
from annlib.errors import AnnlibError, DataError
from annlib.loading import load
from annlib.memory import peak_memory_bytes
from annlib.models.tabular import raw_model
from annlib.reporting.diagram import model_summary, plot_model_diagram
from annlib.reporting.neurons import plot_decision_boundary
from annlib.signature import Signature
from annlib.training import checkpoint
from annlib.training.best import BestCheckpoint
from annlib.training.callbacks import Interrupted, RunCallback
from annlib.training.context import WorkerContext
from annlib.training.engine import StepOptions, fit, metric_names, predict
from annlib.training.engine.collectives import values_of_chief
from annlib.training.precision import check_precision
from annlib.training.split_arguments import arguments_of, evaluate_split, validation_data_of
from annlib.training.storage_patience import StoragePatience
from annlib.training.tensorboard import TensorBoard
from annlib.training.workload import Workload

logger = logging.getLogger(__name__)

# The number of a step is told in two parts.
_STEPS = 2**20


def train_worker(
    config: RunConfig, workload: Workload, context: WorkerContext, *, is_trial: bool = False
) -> dict[str, Any]:
    """Trains and evaluates the workload.

    Args:
        config: the whole configuration.
        workload: what to train.
        context: what the worker has around it.
        is_trial: for a trial of a search, which does not look at the test split, and of which no pictures are drawn.

    Returns:
        {"interrupted": bool, "loading_problem": why a model of the user's own cannot be loaded again, or None,
        "seconds": float, "samples_per_s": float, "epochs": int, "peak_memory_bytes": int,
        "best": {"epoch": int, monitor: float}, "metrics": {split: {name: value}}}; after an interruption, which left a
        checkpoint, {"interrupted", "progress": how far it is}.
    """
    check_precision(config.precision)
    load = functools.partial(workload.load, config)
    # Code of the user's own may do more than to return data.
    data = context.load_once(load) if workload.origin is None else load()
    run = RunDirectory(config.run_path)
    # Layers then get the same names in every process, and a checkpoint tells whether it is of the same model.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_floatx(config.floatx)
    keras.config.set_dtype_policy(config.precision)
    with context.strategy.scope():
        model = workload.build(data, config)
        signature = workload.signature(data, model)
        names = metric_names(model, signature.model_inputs(data.train.x), data.train.y)
        workload.check_monitor(config, names)
    _check_same_data(data, config, context)
    expected = checkpoint.identity(config, data, model)
    progress = _restore(model, expected, config, context, run)
    storage = StoragePatience(config.storage_timeout_s)
    best = _best_checkpoint(config, context, run, storage)
    tensorboard = _tensorboard(data, signature, config, run, storage) if context.rank == 0 else None
    splits = {"train": data.train, "validation": data.validation, **({} if is_trial else {"test": data.test})}
    metrics = {}
    try:
        rows = _fit(model, data, signature, config, context, run, storage, progress, best, tensorboard)
        for name, split in splits.items():
            # The last checkpoint has all that was trained.
            if _agrees_to_stop(context):
                raise Interrupted(f"epoch {len(rows)}")
            metrics[name] = evaluate_split(model, signature, split, config)
    except Interrupted as interruption:
        best.write()
        if tensorboard is not None:
            tensorboard.write()
        context.flush_storage()
        return {"interrupted": True, "progress": str(interruption)}
    # Those of earlier starts of the run as well.
    seconds = sum(row["seconds"] for row in rows)
    loading_problem = None
    if context.rank == 0:
        storage.insist(lambda: _save(model, data, signature, config, run))
        if not is_trial:
            storage.insist(lambda: _save_views(model, data, signature, run))
            loading_problem = None if workload.origin is None else _loading_problem(run)
        context.flush_storage()
    return {
        "interrupted": False,
        "loading_problem": loading_problem,
        "seconds": seconds,
        "samples_per_s": len(data.train) * len(rows) / seconds if rows else 0.0,
        "epochs": len(rows),
        "peak_memory_bytes": peak_memory_bytes(),
        "best": {"epoch": best.best_epoch, config.monitor: best.best},
        "metrics": metrics,
    }


def _check_same_data(data: Dataset, config: RunConfig, context: WorkerContext) -> None:
    """Raises DataError on a rank whose data are others than those of rank 0, as files of a node may be."""
    # As much of it as float32 holds exactly.
    own = int(data.fingerprint[:6], 16)
    if values_of_chief(context.strategy, [own], is_chief=context.rank == 0) != [own]:
        raise DataError(
            f"rank {context.rank} has other data than rank 0: expected the same rows in the same order on all workers, "
            f"received {len(data.train)} rows for training that differ. Give {config.workload} data that all nodes "
            "share, or that depend on the seed alone."
        )


def _restore(
    model: keras.Model, identity: dict[str, Any], config: RunConfig, context: WorkerContext, run: RunDirectory
) -> checkpoint.Progress:
    """Loads the newest sound checkpoint, the same on all ranks; returns where the run starts.

    Rank 0 chooses it, for a network file system may show other nodes what was there a minute ago.
    """
    storage, is_chief = StoragePatience(config.storage_timeout_s, reads=True), context.rank == 0
    restore = functools.partial(checkpoint.restore, run.checkpoints, model, identity)
    progress = storage.insist(restore) if is_chief else None
    # Numbers that float32 holds exactly.
    place = [0, 0, 0, 0] if progress is None else [1, progress.epoch, *divmod(progress.step, _STEPS)]
    is_there, epoch, *step = (int(value) for value in values_of_chief(context.strategy, place, is_chief=is_chief))

    def restore_as_chief() -> checkpoint.Progress | None:
        try:
            return restore(place=(epoch, step[0] * _STEPS + step[1]))
        except OSError:
            context.fetch_storage()
            raise

    if is_there and not is_chief:
        progress = storage.insist(restore_as_chief)
    return progress or checkpoint.Progress(epoch=0, history=[], identity=identity)


def _agrees_to_stop(context: WorkerContext) -> bool:
    """Tells on all ranks whether rank 0 is asked to stop."""
    is_chief = context.rank == 0
    wants = is_chief and context.stop_requested()
    return bool(values_of_chief(context.strategy, [wants], is_chief=is_chief)[0])


def _best_checkpoint(
    config: RunConfig, context: WorkerContext, run: RunDirectory, storage: StoragePatience
) -> BestCheckpoint:
    return BestCheckpoint(
        run.checkpoints,
        monitor=config.monitor,
        mode=config.resolved_monitor_mode,
        every_s=config.checkpoint_every_s,
        storage=storage,
        is_chief=context.rank == 0,
    )


def _tensorboard(
    data: Dataset, signature: Signature, config: RunConfig, run: RunDirectory, storage: StoragePatience
) -> TensorBoard:
    sample = signature.model_inputs(data.train.x)
    return TensorBoard(run.tensorboard, sample, histogram_freq=config.histogram_freq, storage=storage)


def _fit(
    model: keras.Model,
    data: Dataset,
    signature: Signature,
    config: RunConfig,
    context: WorkerContext,
    run: RunDirectory,
    storage: StoragePatience,
    progress: checkpoint.Progress,
    best: BestCheckpoint,
    tensorboard: TensorBoard | None,
) -> list[dict[str, Any]]:
    """Returns all rows of the history."""
    others = [best, *_callbacks_on_a_monitor(config)]
    x, y, weight = arguments_of(data.train, signature)

    def on_row(row: dict[str, Any]) -> None:
        context.on_row(row)
        if tensorboard is not None:
            tensorboard.add(row)

    callback = RunCallback(
        run,
        config,
        progress,
        others=others,
        num_samples=len(data.train),
        storage=storage,
        context=dataclasses.replace(context, on_row=on_row),
    )
    fit(
        model,
        x,
        y,
        batch_size=config.global_batch_size,
        epochs=config.epochs,
        # A run that a callback stopped does not go on.
        initial_epoch=config.epochs if progress.stopped else min(progress.epoch, config.epochs),
        initial_step=progress.step,
        validation_data=validation_data_of(data.validation, signature),
        sample_weight=weight,
        callbacks=[*([] if tensorboard is None else [tensorboard]), *others, callback],
        seed=config.seed,
        options=StepOptions(
            gradient_accumulation=config.gradient_accumulation,
            compression=config.gradient_compression,
            sync_every=config.sync_every,
        ),
        verbose=0,
    )
    return callback.rows


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


def _save(model: keras.Model, data: Dataset, signature: Signature, config: RunConfig, run: RunDirectory) -> None:
    """Writes the model, what it takes and gives, and its layers."""
    whole = model if data.columns is None else _raw_model(model, data.columns, run)
    for name in config.formats:
        file = run.model.with_suffix(f".{name}")
        if name == "h5":
            hdf5.save_model(whole, file)
        else:
            with replacing(file) as temporary:
                whole.save(temporary)
    write_atomically(run.signature, signature.to_json().encode())
    write_atomically(run.model_summary, model_summary(model).encode())


def _loading_problem(run: RunDirectory) -> str | None:
    try:
        load(run, compile=False)
    except AnnlibError as error:
        return str(error)
    return None


def _save_views(model: keras.Model, data: Dataset, signature: Signature, run: RunDirectory) -> None:
    """Writes what else only the model can tell: its diagram, predictions, decision boundary."""
    run.pictures.mkdir(exist_ok=True)
    if not plot_model_diagram(model, run.pictures / "model.png"):
        logger.info("no diagram of the model: it needs Graphviz (`dot`); the summary is in %s", run.model_summary)
    content = io.BytesIO()
    np.save(content, predict(model, signature.model_inputs(data.test.x)))
    write_atomically(run.predictions, content.getvalue())
    # Encoded columns have no unit that a person knows.
    is_plane = data.feature_names is not None and len(data.feature_names) == 2 and data.columns is None
    if data.class_names is not None and data.feature_names is not None and is_plane:
        plot_decision_boundary(
            data.train.x,
            data.train.y,
            lambda x: signature.classify(predict(model, np.asarray(x, dtype=np.float32)))[0],
            data.feature_names,
            data.class_names,
            run.pictures / "decision_boundary.png",
        )


def _raw_model(model: keras.Model, columns: Columns, run: RunDirectory) -> keras.Model:
    """Returns the model of raw rows around a copy of `model`."""
    temporary = run.path / ".model.tmp.keras"
    model.save(temporary)
    # Of a copy outside of the strategy: where a new variable would be the same on all workers, this one alone waits.
    try:
        return raw_model(load(temporary, compile=False), columns, compiled=model)
    finally:
        temporary.unlink()
