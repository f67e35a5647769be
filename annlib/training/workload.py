"""What a workload is: data, a model, and defaults, under one name."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annlib.config import RunConfig
from annlib.data import Dataset

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
        metric: the metric that the progress and the tables show beside the loss.
    """

    name: str
    description: str
    load_data: Callable[[Path | None], Dataset]
    build_model: "Callable[[Dataset, RunConfig], keras.Model]"
    defaults: Mapping[str, Any]
    metric: str
