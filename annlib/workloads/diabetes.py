"""The twin of `california-housing` that needs no download: progression of diabetes after one year, 442 patients.

Source: Efron et al., Least Angle Regression, 2004; the data comes with scikit-learn.
Command: python jobs/train.py diabetes
Measured, test split, seeds 1 to 5, mean and standard deviation: RMSE 53.1 ± 0.3, MAE 42.1 ± 0.5.
"""

from annlib import data
from annlib.config import RunConfig
from annlib.training.workload import Workload
from annlib.workloads import regression


def load_data(config: RunConfig) -> "data.Dataset":
    """Returns 248 training, 83 validation and 111 test patients with 10 features in their units."""
    return data.load("diabetes", data_dir=config.data_dir, standardize=False)


WORKLOAD = Workload(
    name="diabetes",
    description="predict the progression of diabetes from 10 features, 10-30-1 MLP, offline, seconds",
    load_data=load_data,
    build_model=regression.build_mlp,
    defaults={"epochs": 50, "global_batch_size": 32, "learning_rate": 0.0001, **regression.BOOK_MLP},
    metrics=regression.METRICS,
    output="value",
)
