"""Models in HDF5 files, Keras' format of before, and what Keras 3.15 gets wrong when it reads them."""

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annlib.artifacts import write_atomically

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def read_configs(file: Path) -> tuple[Any, Any]:
    """Returns the configurations of the model and of its compilation, the latter None without one.

    Raises:
        OSError: the file is no HDF5 file, or is truncated.
        ValueError: a configuration is missing or no JSON object.
    """
    import h5py  # type: ignore[import-untyped]

    with h5py.File(file, "r") as content:
        texts = [content.attrs.get(name) for name in ("model_config", "training_config")]
    if texts[0] is None:
        raise ValueError("no configuration of a model; it may hold weights only")
    model_config, training_config = (None if text is None else json.loads(text) for text in texts)
    if not isinstance(training_config, dict | None):
        raise ValueError("a training configuration that is no object")
    return model_config, training_config


def save_model(model: "keras.Model", file: Path) -> None:
    """Writes a model with its weights, its compilation and the state of its optimizer, at once or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    import h5py

    # `Model.save` takes a path alone.
    from keras.src.legacy.saving import legacy_h5_format

    # In memory: where the disk is full, HDF5 brings the process down.
    with h5py.File(file.name, "w", driver="core", backing_store=False) as content:
        legacy_h5_format.save_model_to_hdf5(model, content)
        written = content.id.get_file_image()
    write_atomically(file, written)


def load_model(file: Path, custom_objects: Mapping[str, Any], training_config: Any) -> "keras.Model":
    """Returns the model, compiled and with the state of its optimizer unless `training_config` is None.

    Raises whatever Keras raises for a damaged file.
    """
    import keras

    if training_config is None:
        return keras.saving.load_model(file, custom_objects=custom_objects, compile=False, safe_mode=True)
    known = {**_names(training_config), **custom_objects}
    with _without_false_alarms():
        model = keras.saving.load_model(file, custom_objects=known, compile=True, safe_mode=True)
    _restore_optimizer(model, file)
    return model


def _names(training_config: Any) -> dict[str, str]:
    """Returns losses and metrics that were given by name, each under its name.

    `Model.compile` takes a name as it is, but Keras 3.15 fails to turn "mse" and the like into a function first:
    "Could not deserialize 'keras.metrics.mse'".
    """
    names: dict[str, str] = {}
    left = [training_config.get(key) for key in ("loss", "metrics", "weighted_metrics")]
    while left:
        value = left.pop()
        if isinstance(value, str):
            names[value] = value
        elif isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict) and "class_name" not in value:
            left.extend(value.values())
    return names


def _restore_optimizer(model: "keras.Model", file: Path) -> None:
    """Builds the optimizer again and reads its state.

    Keras 3.15 builds it for the variables that belong to no layer, that is for none: its state is lost, and `fit`
    fails with "Unknown variable".
    """
    import h5py

    optimizer = type(model.optimizer).from_config(model.optimizer.get_config())
    optimizer.build(model.trainable_variables)
    with h5py.File(file, "r") as content:
        group = content.get("optimizer_weights")
        # Keras splits the list of more than about a thousand names; then there is none under this key.
        names = () if group is None else group.attrs.get("weight_names", ())
        values = [group[name][()] for name in names]
    if [value.shape for value in values] == [tuple(variable.shape) for variable in optimizer.variables]:
        for variable, value in zip(optimizer.variables, values, strict=True):
            variable.assign(value)
    else:
        logger.warning("%s holds no state that fits its optimizer, which starts afresh", file)
    model.optimizer = optimizer


@contextlib.contextmanager
def _without_false_alarms() -> Iterator[None]:
    """Silences Keras' warnings that the metrics wait for the first evaluation, and that the optimizer starts afresh."""

    def is_right(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return "metrics have yet to be built" not in message and "saved optimizer state" not in message

    absl = logging.getLogger("absl")
    absl.addFilter(is_right)
    try:
        yield
    finally:
        absl.removeFilter(is_right)
