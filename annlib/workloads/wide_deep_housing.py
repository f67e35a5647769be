"""The book's Wide & Deep regressors of house values (A. Géron, Hands-On ML, chapter 10; Cheng et al., 2016).

`wide-deep-housing` concatenates the input with a deep path of 30-30 neurons; `wide-deep-housing-two-inputs` gives
features 0 to 4 to the wide path and 2 to 7 to the deep path.

Command: python jobs/train.py wide-deep-housing
Measured, test split, seeds 1 to 5, mean and standard deviation: MSE 0.429 ± 0.012, MAE 0.471 ± 0.006 (100,000 USD).

Command: python jobs/train.py wide-deep-housing-two-inputs
Measured in the same way: MSE 0.422 ± 0.012, MAE 0.468 ± 0.006.
"""

from typing import TYPE_CHECKING

from annlib.config import RunConfig
from annlib.training.workload import Workload
from annlib.workloads import regression
from annlib.workloads.california_housing import load_data

if TYPE_CHECKING:
    import keras

    from annlib.data import Dataset

WIDE_COLUMNS = (0, 1, 2, 3, 4)
DEEP_COLUMNS = (2, 3, 4, 5, 6, 7)
_DEFAULTS = {"epochs": 20, "global_batch_size": 32, "learning_rate": 0.001}


def build_model(data: "Dataset", config: RunConfig) -> "keras.Model":
    """Returns the compiled model whose two paths get all features."""
    from annlib.models.wide_deep import wide_deep

    return wide_deep(data.train.x.shape[1], optimizer=regression.sgd(data, config), moments=regression.moments(data))


def build_model_of_two_inputs(data: "Dataset", config: RunConfig) -> "keras.Model":
    """Returns the compiled model whose two paths get features of their own."""
    from annlib.models.wide_deep import wide_deep_two_inputs

    return wide_deep_two_inputs(
        len(WIDE_COLUMNS),
        len(DEEP_COLUMNS),
        optimizer=regression.sgd(data, config),
        wide_moments=regression.moments(data, WIDE_COLUMNS),
        deep_moments=regression.moments(data, DEEP_COLUMNS),
    )


WORKLOAD = Workload(
    name="wide-deep-housing",
    description="predict house values, Wide & Deep: the input beside a 30-30 deep path",
    load_data=load_data,
    build_model=build_model,
    defaults=_DEFAULTS,
    metrics=regression.METRICS,
    output="value",
)
WORKLOAD_OF_TWO_INPUTS = Workload(
    name="wide-deep-housing-two-inputs",
    description="predict house values, Wide & Deep: 5 features to the wide path, 6 to the deep one",
    load_data=load_data,
    build_model=build_model_of_two_inputs,
    defaults=_DEFAULTS,
    metrics=regression.METRICS,
    output="value",
    inputs=(("wide_input", WIDE_COLUMNS), ("deep_input", DEEP_COLUMNS)),
)
