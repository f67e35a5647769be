"""What a workload is: data, a model, and defaults, under one name."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.errors import ConfigError

if TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workload:
    """Something to train.

    Args:
        name: what the command line calls it.
        description: one line for `--list`.
        load_data: returns the data set; the argument is `--data-dir`.
        build_model: returns a compiled model for a data set and a configuration.
        defaults: values of `RunConfig` fields that differ from workload to workload.
        metrics: names of the model's metrics beside the loss; the progress shows the first.
        output: what the model gives: "probabilities" of each class, a "sigmoid" or a linear "score" of the second of
            two classes, or a "value" of a regression.
        inputs: for a model with several inputs, the name and the columns of x of each; None passes x as it is.
    """

    name: str
    description: str
    load_data: Callable[[Path | None], Dataset]
    build_model: "Callable[[Dataset, RunConfig], keras.Model]"
    defaults: Mapping[str, Any]
    metrics: tuple[str, ...]
    output: Literal["probabilities", "sigmoid", "score", "value"]
    inputs: tuple[tuple[str, tuple[int, ...]], ...] | None = None

    def check(self, config: RunConfig) -> None:
        """Checks what `RunConfig` cannot know alone.

        Raises:
            ConfigError: the monitored metric is none of the workload's.
        """
        names = ["loss", *self.metrics]
        known = [*names, *(f"val_{name}" for name in names)]
        if config.monitor not in known:
            raise ConfigError(
                f"monitor is unknown: expected one of {', '.join(known)}, received {config.monitor!r}. "
                "Correct --monitor."
            )

    def labels(self, outputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Returns the predicted class indices, int64, shape (n,), for outputs of a classifier, shape (n, outputs)."""
        if self.output == "probabilities":
            return np.asarray(outputs.argmax(axis=1))
        threshold = 0.5 if self.output == "sigmoid" else 0.0
        return np.asarray(outputs[:, 0] >= threshold, dtype=np.int64)

    def model_inputs(self, x: np.ndarray[Any, Any]) -> Any:
        """Returns what the model takes for x: x itself, or a tuple of columns for each input."""
        if self.inputs is None:
            return x
        return tuple(np.ascontiguousarray(x[:, list(columns)]) for _, columns in self.inputs)
