"""What annlib trains out of the box, and the user's own. Importing this imports neither TensorFlow nor Ray."""

import functools
import os

from annlib.config import did_you_mean
from annlib.errors import ConfigError
from annlib.training.own_code import Origin
from annlib.training.workload import Workload, import_workload
from annlib.workloads import (
    california_housing,
    diabetes,
    digits,
    fashion_mnist,
    iris_perceptron,
    table,
    wide_deep_housing,
)

_ALL = (
    fashion_mnist.WORKLOAD,
    california_housing.WORKLOAD,
    wide_deep_housing.WORKLOAD,
    wide_deep_housing.WORKLOAD_OF_TWO_INPUTS,
    iris_perceptron.WORKLOAD,
    digits.WORKLOAD,
    diabetes.WORKLOAD,
    table.WORKLOAD,
)
WORKLOADS = {workload.name: workload for workload in _ALL}


@functools.cache
def find(name: str) -> Workload:
    """Returns the workload of that name, or imports one of the user's own.

    Args:
        name: one of `WORKLOADS`; or `path/to/file.py:name` or `package.module:name`, from the working directory.

    Raises:
        ConfigError: there is none, or importing it fails.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    if ":" in name:
        return import_workload(Origin(reference=name, directory=os.getcwd()))
    own = "path/to/file.py:name or package.module:name of your own"
    raise ConfigError(
        f"workload {name!r} is unknown{did_you_mean(name, WORKLOADS)}: expected one of {', '.join(WORKLOADS)}, or "
        f"{own}. `--list` describes them."
    )
