"""A table of the user's own: CSV or Parquet, regression or classification, an MLP or Wide & Deep trained by Adam.

Command: python jobs/train.py table --data sales.csv --target price
"""

import functools
from typing import TYPE_CHECKING

from annlib.artifacts import RunDirectory
from annlib.config import read_yaml
from annlib.data.own_table.config import TableConfig
from annlib.errors import ConfigError
from annlib.storage import exists
from annlib.training.workload import Workload

if TYPE_CHECKING:
    import keras

    from annlib.data import Dataset


# One process looks at the data before, during and after training.
@functools.lru_cache(maxsize=1)
def load_data(config: TableConfig) -> "Dataset":
    """Returns the table of the configuration."""
    import pyarrow

    if config.streaming:
        from annlib.data.own_table.streaming import load_streamed as load
    else:
        from annlib.data.own_table.loading import load_table as load
    data = load(config)
    # Arrow keeps what it has freed: 100 MB and more.
    pyarrow.default_memory_pool().release_unused()
    return data


def settle(config: TableConfig) -> TableConfig:
    """Returns a configuration with `streaming`, where the table does not fit into memory.

    A run that has begun goes on as it began, on whatever machine and with however many workers.
    """
    from annlib.data.own_table.sizing import must_stream

    begun = None if "streaming" in config.model_fields_set else _streaming_of_run(config)
    if not (must_stream(config) if begun is None else begun):
        return config
    if config.sync_every > 1:
        raise ConfigError(
            f"sync_every is wrong: expected 1 for a table that is streamed, received {config.sync_every}. Leave "
            "--sync-every out."
        )
    return config.model_copy(update={"streaming": True})


def _streaming_of_run(config: TableConfig) -> bool | None:
    """Returns whether the run or search of this name streams; None where there is none, or one of another kind."""
    run = RunDirectory(config.run_path)
    for file in (run.config, run.search):
        location = f"{config.location}/{file.name}"
        try:
            if not exists(location):
                continue
        except OSError:
            # An object store that is away, which whoever opens it next tells.
            return None
        streaming = read_yaml(location, flag="--name").get("streaming")
        return streaming if isinstance(streaming, bool) else None
    return None


def build_model(data: "Dataset", config: TableConfig) -> "keras.Model":
    """Returns the compiled model of encoded columns; it is saved inside one of raw rows."""
    from annlib.data.dataset import StreamedSplit
    from annlib.models.optimizers import make_optimizer
    from annlib.models.tabular import tabular_model
    from annlib.models.targets import ClassificationTask
    from annlib.training.schedule import learning_rate

    assert data.columns is not None
    assert config.hidden is not None
    assert config.activation is not None
    assert config.optimizer is not None
    task = None
    if data.task is not None and data.task != "regression":
        task = ClassificationTask(
            kind=data.task,
            num_classes=len(data.class_names or ()),
            encoding="multi-hot" if data.task == "multilabel" else "sparse",
        )
    return tabular_model(
        data.columns,
        data.train.y,
        task,
        optimizer=make_optimizer(config.optimizer, learning_rate(config, len(data.train))),
        kind=config.model,
        hidden=config.hidden,
        hidden_activation=config.activation,
        loss=config.loss,
        y_moments=data.train.y_moments if isinstance(data.train, StreamedSplit) else None,
    )


WORKLOAD = Workload(
    name="table",
    description="predict a column of your own CSV or Parquet files; `jobs/train.py table --help` lists its flags",
    load_data=load_data,
    build_model=build_model,
    defaults={
        "epochs": 20,
        "global_batch_size": 32,
        "learning_rate": 0.001,
        "hidden": (50, 50, 50),
        "activation": "relu",
        "optimizer": "adam",
    },
    # Those of a regression, then of the kinds of classification.
    metrics=("root_mean_squared_error", "mae", "sparse_categorical_accuracy", "binary_accuracy"),
    config_class=TableConfig,
    settle=settle,
)
