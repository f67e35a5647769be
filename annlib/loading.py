"""Models that were saved, and the files of finished runs, read without running code that stands in them."""

import atexit
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from annlib import hdf5
from annlib.artifacts import RunDirectory
from annlib.config import RunConfig
from annlib.errors import CheckpointError, StorageError
from annlib.signature import Signature
from annlib.storage import Remote, check_storage, is_remote, unreadable

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

_NOT_FETCHED = ("checkpoints/", "tensorboard/", "pictures/", "logs/")
MODEL_FILES = ("model.keras", "model.h5")
_HDF5_ENDINGS = (".h5", ".hdf5")
# Layers that hold or fetch code of their own.
_CODE_CLASSES = {"__lambda__", "TFSMLayer", "TorchModuleWrapper"}
# No configuration of a model is larger; a damaged or hostile archive may claim more than fits into memory.
_MAX_CONFIG_BYTES = 256 * 1024**2


def load(
    path: str | os.PathLike[str] | RunDirectory,
    *,
    compile: bool = True,
    custom_objects: Mapping[str, Any] | None = None,
) -> "keras.Model":
    """Returns a saved model; its predictions are those from before saving, bit for bit.

    No code from the file is run, whatever `keras.config.enable_unsafe_deserialization` says.

    Args:
        path: a `.keras` file, an HDF5 file (`.h5`, `.hdf5`), or a directory with `model.keras` or else `model.h5`: a
            run, or a checkpoint such as `checkpoints/epoch-00012`; also as a URI such as s3://bucket/runs/name.
        compile: False leaves out loss, metrics and optimizer, which predictions do not need.
        custom_objects: classes and functions of your own by name, as for `keras.saving.load_model`.

    Returns:
        The model, compiled as it was when it was saved, with the state of its optimizer. A model that was saved
        uncompiled comes back uncompiled, as from Keras, and a warning is logged.

    Raises:
        StorageError: there is no such file, no model in the directory, or it cannot be read.
        CheckpointError: the file is no model, is damaged, holds Python code, or names a class that is not known.
    """
    place = path.path if isinstance(path, RunDirectory) else local_copy(os.fspath(path))
    file = find_model_file(place)
    model_config, training_config = _read_configs(file)
    _refuse_code(file, [model_config, training_config])
    if compile and not training_config:
        logger.warning("%s was saved uncompiled and stays so: call model.compile to train or evaluate it", file)
    import_keras()
    import keras

    # Registers annlib's own layers and losses.
    import annlib.models.losses
    import annlib.models.tabular_layers  # noqa: F401

    is_compiled = compile and bool(training_config)
    try:
        if file.suffix in _HDF5_ENDINGS:
            return hdf5.load_model(file, custom_objects or {}, training_config if is_compiled else None)
        with _scaled_loss(model_config):
            return keras.saving.load_model(file, custom_objects=custom_objects, compile=is_compiled, safe_mode=True)
    # A damaged file makes Keras, h5py and zipfile raise nearly anything.
    except Exception as error:
        # Keras repeats the configurations around the layer that failed.
        reason = str(error).rsplit("Exception encountered: ", 1)[-1] or type(error).__name__
        raise CheckpointError(
            f"{file} cannot be loaded: expected a whole model of known classes, received: "
            f"{textwrap.shorten(reason, 300, placeholder=' ...')} Import what registers its classes or pass "
            "custom_objects, or restore the file."
        ) from error


@contextlib.contextmanager
def _scaled_loss(model_config: Any) -> Iterator[None]:
    """Lets Keras scale the loss of a model that has been trained so.

    It saves neither that nor, for most models, their precision, and takes the precision of the process for it.
    """
    import keras

    before = keras.config.dtype_policy()
    if '"mixed_float16"' in json.dumps(model_config):
        keras.config.set_dtype_policy("mixed_float16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def load_core(run: RunDirectory, signature: Signature, *, compile: bool = True) -> "keras.Model":
    """Returns what takes the signature's arrays: the model of a run; of a table, the model of encoded columns in it.

    Raises as `load`.
    """
    model = load(run, compile=compile)
    if signature.columns is None:
        return model
    from annlib.models.tabular import core_of

    return core_of(model)


def open_run(path: str | os.PathLike[str]) -> RunDirectory:
    """Returns the directory of a finished run; of one on an object store, a copy until this process ends.

    Raises:
        StorageError: it is none, or the run is not finished.
    """
    run = RunDirectory(local_copy(os.fspath(path)).absolute())
    if not run.config.is_file():
        received = "no config.yaml in it" if run.path.is_dir() else "no such directory"
        raise StorageError(
            f"{path} is not a run: expected a directory that jobs/train.py made, received {received}. Correct the path."
        )
    if run.read_metrics() is None:
        raise StorageError(
            f"the run {path} is not finished: expected metrics.json in it, received {len(run.read_history())} epochs "
            "without. Start the same jobs/train.py command again with its --name."
        )
    return run


def local_copy(location: str) -> Path:
    """Returns a path; what is on an object store is fetched, but for what only training and people read."""
    place = check_storage(location)
    if not is_remote(place):
        return Path(place)
    directory = Path(tempfile.mkdtemp(prefix="annlib-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    parent, name = place.rsplit("/", 1)
    is_file = name.endswith((".keras", *_HDF5_ENDINGS))
    remote = Remote(parent if is_file else place)
    try:
        names = [name] if is_file else [found for found in remote.list() if not found.startswith(_NOT_FETCHED)]
        for found in names:
            remote.download(found, directory / found)
    except FileNotFoundError:
        raise StorageError(f"{place} does not exist: expected a model or a run there. Correct the URI.") from None
    except OSError as error:
        raise unreadable(place, error) from None
    if not names:
        raise StorageError(f"{place} does not exist: expected a model or a run there. Correct the URI.")
    return directory / name if is_file else directory


def read_config(run: RunDirectory, find_class: Callable[[str], type[RunConfig]] = lambda _: RunConfig) -> RunConfig:
    """Returns the configuration a run was trained with.

    Args:
        run: the run directory.
        find_class: returns the kind of configuration of a workload's name.

    Raises:
        StorageError: it is missing or damaged.
    """
    try:
        values = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        name = values.get("workload") if isinstance(values, dict) else None
        config_class = find_class(name) if isinstance(name, str) else RunConfig
        return config_class.model_validate(values)
    except OSError as error:
        reason = str(error.strerror)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        reason = f"{'.'.join(str(part) for part in first['loc']) or 'the file'}: {first['msg']}"
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error)
    raise StorageError(
        f"{run.config} is damaged: expected the configuration of a run, received one with an error "
        f"({' '.join(reason.split())}). Restore the file."
    )


def find_model_file(path: Path) -> Path:
    """Returns the file of a model that `load` reads: the path itself, or one in the directory.

    Raises:
        StorageError: there is none.
        CheckpointError: the path is no model.
    """
    if path.is_dir():
        for name in MODEL_FILES:
            if (path / name).is_file():
                return path / name
        hint = "Finish the run, or give one of its checkpoints." if (path / "config.yaml").exists() else "Give a run."
        raise StorageError(
            f"{path} holds no model: expected {' or '.join(MODEL_FILES)} in it, received neither. {hint}"
        )
    if not path.exists():
        raise StorageError(
            f"{path} does not exist: expected a .keras or .h5 file, a run or a checkpoint, received none. "
            "Correct the path."
        )
    if path.suffix not in (".keras", *_HDF5_ENDINGS):
        raise CheckpointError(
            f"{path} is not a model: expected a file that ends in .keras or .h5, received {path.suffix or 'no ending'}."
            " Give another file, or rename it if it is one."
        )
    return path


def _read_configs(file: Path) -> tuple[Any, Any]:
    """Returns the configurations of the model and of its compilation, the latter None without one."""
    try:
        if file.stat().st_size == 0:
            raise ValueError("an empty file")
        return hdf5.read_configs(file) if file.suffix in _HDF5_ENDINGS else _read_archive(file)
    except PermissionError as error:
        raise StorageError(
            f"{file} cannot be read: expected a readable file, received {error.strerror}. Change its permissions."
        ) from None
    except (OSError, ValueError, TypeError, LookupError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        reason = " ".join(str(error.args[0] if error.args else type(error).__name__).split())
    raise CheckpointError(
        f"{file} is not a model or is damaged: expected a whole model that Keras saved, received: {reason}. "
        "Restore the file, or load an older checkpoint."
    )


def _read_archive(file: Path) -> tuple[Any, Any]:
    with zipfile.ZipFile(file) as archive:
        size = archive.getinfo("config.json").file_size
        if size > _MAX_CONFIG_BYTES:
            raise ValueError(f"a configuration of {size:,} bytes")
        # Keras itself does not compare the checksums of the weights.
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"a wrong checksum of {damaged}")
        config = json.loads(archive.read("config.json"))
    if not isinstance(config, dict):
        raise ValueError("a configuration that is no object")
    return config, config.get("compile_config")


def _refuse_code(file: Path, configs: list[Any]) -> None:
    """Raises CheckpointError where a configuration holds code, as marshalled bytes or as another file."""
    left = list(configs)
    while left:
        value = left.pop()
        if isinstance(value, dict):
            kind, inner = value.get("class_name"), value.get("config")
            # HDF5 files of earlier versions hold [code, defaults, closure].
            is_old = kind == "Lambda" and isinstance(inner, dict) and isinstance(inner.get("function"), list)
            if is_old or (isinstance(kind, str) and kind in _CODE_CLASSES):
                raise CheckpointError(
                    f"{file} holds Python code that loading would run ({kind}): expected a model of layers, received "
                    "one with code of its own. Write it as a registered layer and save again; never load such a file "
                    "from others."
                )
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)


def import_keras() -> None:
    """Imports Keras and TensorFlow without what C++ prints meanwhile: CPU flags, missing CUDA."""
    if "keras" in sys.modules:
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices("GPU")
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
