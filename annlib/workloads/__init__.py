"""What annlib trains out of the box. Importing this imports neither TensorFlow nor Ray."""

import difflib

from annlib.errors import ConfigError
from annlib.training.workload import Workload
from annlib.workloads import (
    california_housing,
    diabetes,
    digits,
    fashion_mnist,
    iris_perceptron,
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
)
WORKLOADS = {workload.name: workload for workload in _ALL}


def find(name: str) -> Workload:
    """Returns the workload of that name.

    Raises:
        ConfigError: there is none.
    """
    if name in WORKLOADS:
        return WORKLOADS[name]
    close = difflib.get_close_matches(name, list(WORKLOADS), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise ConfigError(
        f"workload {name!r} is unknown{hint}: expected one of {', '.join(WORKLOADS)}. `--list` describes them."
    )
