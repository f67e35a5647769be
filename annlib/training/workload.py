"""What a workload is: data, a model, and defaults, under one name."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.errors import ConfigError
from annlib.signature import Output, Signature

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
        output: how the model's output reads, as in `Signature`.
        inputs: for a model with several inputs, the name and the columns of x of each; None passes x as it is.
    """

    name: str
    description: str
    load_data: Callable[[Path | None], Dataset]
    build_model: "Callable[[Dataset, RunConfig], keras.Model]"
    defaults: Mapping[str, Any]
    metrics: tuple[str, ...]
    output: Output
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

    def signature(self, data: Dataset) -> Signature:
        """Returns what the model for a data set takes and gives."""
        return Signature.from_dataset(data, self.inputs, output=self.output)
