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


# Fields of the configuration that shape an MLP.
MLP_FIELDS = ("hidden", "activation", "optimizer")


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

    @property
    def is_mlp(self) -> bool:
        """The configuration shapes the model: the defaults have `hidden`, `activation` and `optimizer`."""
        return all(name in self.defaults for name in MLP_FIELDS)

    def check(self, config: RunConfig) -> None:
        """Checks what `RunConfig` cannot know alone.

        Raises:
            ConfigError: the monitored metric is none of the workload's, or a value is for an MLP and this is none.
        """
        for name in MLP_FIELDS:
            value = getattr(config, name)
            if self.is_mlp and value is None:
                raise ConfigError(f"{name} is missing: expected a value, received null. Give --{name}.")
            if not self.is_mlp and value is not None:
                raise ConfigError(
                    f"{name} does not fit {self.name}: expected no value, for its model is no MLP of hidden layers, "
                    f"received {value!r}. Leave --{name} out."
                )
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
