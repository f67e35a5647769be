"""Checkpoints: everything a run needs to go on after any step as if it had never stopped.

`checkpoints/epoch-00012/`, or `epoch-00012-step-000000500/` within an epoch, holds `model.keras`, which any Keras
program loads, `state.npz` with all variables in order (weights, statistics, seeds, optimizer, then metrics and
callbacks), and `manifest.json` with the rest and the SHA-256 of all three.
"""

import dataclasses
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import uuid
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annlib.artifacts import sync
from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.errors import CheckpointError

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

FORMAT_VERSION = 2
_CALLBACK_PREFIX = "callback/"
_METRIC_PREFIX = "metric/"
_DEFAULT = "(default)"
_STEP_FIELDS = {"gradient_accumulation", "gradient_compression", "sync_every"}
# The best value and the patience of one monitor say nothing of another.
_MONITOR_FIELDS = {"monitor", "monitor_mode"}
Arrays = dict[str, np.ndarray[Any, Any]]

# What reading a damaged checkpoint raises.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile)
# A file that is missing. Other numbers are those of a storage that cannot be read now, and say nothing of a checkpoint.
_MISSING = (None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR)
_NAME = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is.

    Args:
        epoch: number of completed epochs.
        step: number of completed steps of the epoch after those; 0 between two epochs.
        epoch_s: seconds that these steps took.
        history: a row for each completed epoch.
        identity: what a resumed run must have in common: workload, model, seed, hyperparameters, data fingerprint.
        configuration: all values of the run's configuration, for a reader.
        stopped: a callback ended the training here.
        callbacks: state of the callbacks, as `callback_state.collect` returns it.
        callback_arrays: the arrays of that state.
        metrics: state of the metrics over the `step` steps, as `metric_state` returns it; empty between two epochs.
    """

    epoch: int
    history: list[dict[str, Any]]
    identity: dict[str, Any]
    step: int = 0
    epoch_s: float = 0.0
    configuration: dict[str, Any] = dataclasses.field(default_factory=dict)
    stopped: bool = False
    callbacks: dict[str, Any] = dataclasses.field(default_factory=dict)
    callback_arrays: Arrays = dataclasses.field(default_factory=dict, repr=False)
    metrics: list[np.ndarray[Any, Any]] = dataclasses.field(default_factory=list, repr=False)

    def __str__(self) -> str:
        return f"epoch {self.epoch}" + (f" and {self.step} steps" if self.step else "")


def identity(config: RunConfig, data: Dataset, model: "keras.Model | None" = None) -> dict[str, Any]:
    """Returns what two starts of one run must have in common; without a model, what can be known before it is built."""
    return {
        **({} if model is None else {"model": _model_fingerprint(model)}),
        "workload": config.workload,
        "seed": config.seed,
        "global_batch_size": config.global_batch_size,
        "learning_rate": config.learning_rate,
        "precision": config.precision,
        "learning_rate_schedule": config.learning_rate_schedule,
        **config.model_dump(mode="json", include={"hidden", "activation", "optimizer"}),
        # A schedule reaches its end with the last epoch, so that more epochs are another training.
        **({} if config.learning_rate_schedule == "constant" else {"epochs": config.epochs}),
        # Those of older runs are the defaults.
        **config.model_dump(mode="json", include=_STEP_FIELDS | _MONITOR_FIELDS, exclude_defaults=True),
        **config.identity,
        "data_fingerprint": data.fingerprint,
    }


def save(directory: Path, model: "keras.Model", progress: Progress, *, keep: int) -> Path:
    """Writes a checkpoint under a temporary name, then renames it; returns its path. The newest `keep` stay."""
    path = directory / (f"epoch-{progress.epoch:05d}" + (f"-step-{progress.step:09d}" if progress.step else ""))
    temporary = directory / f".{path.name}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir(parents=True)
    try:
        model.save(temporary / "model.keras")
        values = {f"{i:05d}": variable.numpy() for i, variable in enumerate(_variables(model))}
        values |= {_CALLBACK_PREFIX + name: array for name, array in progress.callback_arrays.items()}
        values |= {f"{_METRIC_PREFIX}{i:05d}": array for i, array in enumerate(progress.metrics)}
        with (temporary / "state.npz").open("wb") as file:
            np.savez(file, **values)
        files = {name: _sha256(temporary / name) for name in ("model.keras", "state.npz")}
        manifest = {"format_version": FORMAT_VERSION, **vars(progress), "sha256": files}
        del manifest["callback_arrays"], manifest["metrics"]
        manifest["manifest_sha256"] = _manifest_sha256(manifest)
        (temporary / "manifest.json").write_text(json.dumps(manifest))
        for written in temporary.iterdir():
            sync(written)
        if path.exists():
            # Of the same epoch, for the order of batches and the weights depend on nothing else.
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    # The run went on from before newer ones, for they are damaged: they do not count, and go when they are old.
    known = [found for found in _newest_first(directory) if _place(found) <= _place(path)]
    for old in known[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return path


def restore(
    directory: Path, model: "keras.Model", identity: dict[str, Any], *, place: tuple[int, int] | None = None
) -> Progress | None:
    """Loads the newest sound checkpoint into a built model; None where there is none.

    Args:
        directory: that of the run's checkpoints.
        model: what has been saved.
        identity: what the checkpoint must have in common with the run.
        place: epoch and step of the checkpoint to load, which another worker has found sound; None for the newest.

    Raises:
        CheckpointError: the checkpoint is of another model, data set, seed or hyperparameters.
        OSError: the storage cannot be read, or does not show the checkpoint of that place yet.
    """
    for path in _newest_first(directory):
        if place is not None and _place(path) != place:
            continue
        try:
            progress, values = _read(path)
        except _DAMAGE as error:
            _raise_unless_damage(error)
            logger.warning("checkpoint %s is damaged and is passed over: %s", path, error)
            continue
        _check_identity(path, progress.identity, identity)
        variables = _variables(model)
        if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
            raise CheckpointError(
                f"checkpoint {path} is of another model: expected {len(variables)} variables of the same shapes, "
                f"received {len(values)}. Give another --name, or the model it was made with."
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return progress
    if place is not None:
        raise OSError(errno.ENOENT, "no sound checkpoint of the epoch and step that rank 0 restored", str(directory))
    return None


def find_resumable(directory: Path, identity: dict[str, Any]) -> tuple[Progress | None, list[Path]]:
    """Looks, before anything starts, where a run would go on.

    Returns:
        What the newest sound checkpoint holds, None where there is none, and the damaged ones that are newer.

    Raises:
        CheckpointError: the newest sound checkpoint has another identity, named with the first difference, or is of
            another version of annlib.
        OSError: the storage cannot be read.
    """
    damaged = []
    for path in _newest_first(directory):
        try:
            progress = _read(path)[0]
        except _DAMAGE as error:
            _raise_unless_damage(error)
            damaged.append(path)
            continue
        _check_identity(path, progress.identity, identity)
        return progress, damaged
    return None, damaged


def _check_identity(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    # The model is not known before it is built. Another name that one side lacks has its default there.
    known = {name for name in found if name != "model"}
    # What the data depend on comes before them.
    for name in sorted((*expected, *sorted(known - set(expected))), key=lambda name: name == "data_fingerprint"):
        before, value = found.get(name, _DEFAULT), expected.get(name, _DEFAULT)
        if before == value:
            continue
        if name == "data_fingerprint":
            raise CheckpointError(
                f"{path} was made with other data: expected the same rows in the same order, received some that "
                "changed since. Restore the data to resume, or give another --name to start anew."
            )
        raise CheckpointError(
            f"{path} was made with {name}={before}: expected {name}={value}. Use the earlier value to "
            "resume, or give another --name to start anew."
        )


def _read(path: Path) -> tuple[Progress, list[np.ndarray[Any, Any]]]:
    manifest = json.loads((path / "manifest.json").read_text())
    if _manifest_sha256(manifest) != manifest["manifest_sha256"]:
        raise ValueError("manifest.json does not have its own SHA-256")
    if manifest["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has the format of another version of annlib: expected version {FORMAT_VERSION}, received "
            f"{manifest['format_version']}. Go on with the annlib that made it, or give another --name to start anew."
        )
    for name, digest in manifest["sha256"].items():
        if _sha256(path / name) != digest:
            raise ValueError(f"{name} does not have the SHA-256 of the manifest")
    with np.load(path / "state.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in sorted(file.files)}
    names = [field.name for field in dataclasses.fields(Progress) if field.name not in ("callback_arrays", "metrics")]
    progress = Progress(
        **{name: manifest[name] for name in names},
        callback_arrays=_with_prefix(arrays, _CALLBACK_PREFIX),
        metrics=list(_with_prefix(arrays, _METRIC_PREFIX).values()),
    )
    return progress, [array for key, array in arrays.items() if "/" not in key]


def _with_prefix(arrays: Arrays, prefix: str) -> Arrays:
    return {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}


def _manifest_sha256(manifest: dict[str, Any]) -> str:
    content = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _model_fingerprint(model: "keras.Model") -> str | None:
    """Returns a digest of the layers and how they are joined; None for a model that cannot tell them."""
    try:
        layers = json.loads(model.to_json())["config"]
    except (NotImplementedError, TypeError, ValueError):
        return None
    return hashlib.sha256(json.dumps(layers, sort_keys=True).encode()).hexdigest()


def _variables(model: "keras.Model") -> "list[keras.Variable]":
    variables: list[keras.Variable] = [
        *model.trainable_variables,
        *model.non_trainable_variables,
        *model.optimizer.variables,
    ]
    return variables


def _newest_first(directory: Path) -> list[Path]:
    # Not Path.glob, for which a directory that cannot be read is an empty one.
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (directory / name for name in names if _NAME.fullmatch(name))
    return sorted((path for path in found if path.is_dir()), key=_place, reverse=True)


def _place(path: Path) -> tuple[int, int]:
    """Returns the completed epochs, and the steps of the one after them, that a checkpoint's name tells."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _raise_unless_damage(error: Exception) -> None:
    if isinstance(error, OSError) and error.errno not in _MISSING:
        raise error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
