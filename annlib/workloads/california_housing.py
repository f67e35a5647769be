"""The book's MLP regressor: median house values of California's districts (A. Géron, Hands-On ML, chapter 10).

Command: python jobs/train.py california-housing
Measured, test split, seeds 1 to 5, mean and standard deviation: MSE 0.427 ± 0.012, MAE 0.469 ± 0.006 (100,000 USD).
"""

from annlib import data
from annlib.config import RunConfig
from annlib.training.workload import Workload
from annlib.workloads import regression


def load_data(config: RunConfig) -> "data.Dataset":
    """Returns 11,610 training, 3,870 validation and 5,160 test districts with 8 features in their units."""
    return data.load("california-housing", data_dir=config.data_dir, standardize=False)


WORKLOAD = Workload(
    name="california-housing",
    description="predict house values from 8 features of a district, 8-30-1 MLP",
    load_data=load_data,
    build_model=regression.build_mlp,
    defaults={"epochs": 20, "global_batch_size": 32, "learning_rate": 0.001, **regression.BOOK_MLP},
    metrics=regression.METRICS,
    output="value",
)
