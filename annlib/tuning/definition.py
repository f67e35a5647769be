"""What a search is: the trials to do, and how it decides between them."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from annlib.config import RunConfig
from annlib.errors import ConfigError
from annlib.training.workload import MLP_FIELDS, Workload
from annlib.tuning.space import Space, as_yaml, check_space, default_space, read_space

# One of three goes on at each rung, as in the paper on ASHA (Li et al., 2020) and Hyperband.
REDUCTION_FACTOR = 3
# The first rung, as a part of all epochs: a tenth tells good rates from bad ones.
GRACE = 0.1
# The start of a process and TensorFlow's import take longer than a small trial. What TensorFlow keeps of each trial's
# compiled loop is about 3 MB, which nothing gives back but the end of the process.
TRIALS_PER_PROCESS = 100
# What tells in the name of a metric which values of it are the better ones.
_SMALLER = ("loss", "error", "mae", "mse", "mape", "crossentropy", "hinge", "divergence", "poisson", "deviance")
# Where and how trials run, which does not change what they are.
_PLACES = {
    "name",
    "storage",
    "data_dir",
    "storage_timeout_s",
    "checkpoint_every_s",
    "keep",
    "max_failures",
    "worker_timeout_s",
    "start_timeout_s",
    "cpus_per_worker",
    "use_gpu",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched.

    Args:
        config: the configuration of the first trial, whose name and storage are those of the search; `monitor` is the
            metric that is compared, on the validation split.
        workload: what to train.
        space: what the other trials vary.
        num_trials: trials in all, with the first one.
        concurrency: trials at the same time; None takes what there is room for.
        trials_per_process: trials that a process does, one after another, until a new one takes its place.
    """

    config: RunConfig
    workload: Workload
    space: Space
    num_trials: int
    concurrency: int | None = None
    trials_per_process: int = TRIALS_PER_PROCESS

    @property
    def larger_is_better(self) -> bool:
        """Of the metric."""
        return self.config.resolved_monitor_mode == "max"

    @property
    def rungs(self) -> list[int]:
        """Epochs after which the better trials go on, and the last epoch."""
        rungs, epoch = [], max(1, round(GRACE * self.config.epochs))
        while epoch < self.config.epochs:
            rungs.append(epoch)
            epoch *= REDUCTION_FACTOR
        return [*rungs, self.config.epochs]

    def identity(self) -> dict[str, Any]:
        """Returns what two starts of one search have in common."""
        configuration = self.config.model_dump(mode="json", exclude=_PLACES)
        return {**configuration, "space": as_yaml(self.space)}


def define(
    config: RunConfig,
    workload: Workload,
    *,
    num_trials: int,
    space_file: str | None = None,
    metric: str | None = None,
    monitor_mode: str | None = None,
    concurrency: int | None = None,
    trials_per_process: int = TRIALS_PER_PROCESS,
) -> Search:
    """Puts a search together and checks it as a whole.

    Args:
        config: the configuration of the first trial, with the name and the storage of the search.
        workload: what to train.
        num_trials: trials in all.
        space_file: YAML file of what to vary, a path or a URI; None takes the workload's default space.
        metric: what to compare; None takes the configuration's `monitor` where that is set, else the accuracy of a
            classifier, and `val_loss` of other models.
        monitor_mode: "min", "max" or "auto", of that metric; None takes the configuration's where the metric is its
            `monitor`, else "auto".
        concurrency: trials at the same time.
        trials_per_process: trials that a process does, one after another, until a new one takes its place.

    Raises:
        AnnlibError: a value is wrong.
    """
    if metric is None and "monitor" in config.model_fields_set:
        metric = config.monitor
    if metric is None:
        is_classifier = workload.output == "probabilities" and workload.metrics
        metric = f"val_{workload.metrics[0]}" if is_classifier else "val_loss"
    # The metrics of a model of the user's own are known when it is built.
    if workload.metrics or not metric.startswith("val_"):
        check_metric(metric, workload.metrics)
    if config.uses_ray:
        raise ConfigError(
            "num_workers does not fit a search: expected 0, for each trial trains in one process, received "
            f"{config.num_workers[1]}. Leave it out; --concurrency says how many trials run at a time."
        )
    # The mode of another metric says nothing of this one.
    mode = monitor_mode or (config.monitor_mode if metric == config.monitor else "auto")
    config = workload.settled(config.model_copy(update={"monitor": metric, "monitor_mode": mode}))
    _check_direction(config)
    space = default_space(workload, config) if space_file is None else read_space(space_file, config)
    shapes = [name for name in space if name in ("layers", "neurons", *MLP_FIELDS)]
    if shapes and not workload.is_mlp:
        raise ConfigError(
            f"{', '.join(shapes)} of --space {space_file} cannot be tuned for {workload.name}: expected other "
            "hyperparameters, for its model is no MLP of hidden layers that the configuration shapes. Remove it."
        )
    if space_file is None:
        check_space(space, config, "the default space")
    return Search(
        config=config,
        workload=workload,
        space=space,
        num_trials=num_trials,
        concurrency=concurrency,
        trials_per_process=trials_per_process,
    )


def _check_direction(config: RunConfig) -> None:
    """Raises ConfigError where the name of the metric does not tell whether larger values are better."""
    is_larger, is_smaller = config.resolved_monitor_mode == "max", any(part in config.monitor for part in _SMALLER)
    if config.monitor_mode == "auto" and is_larger == is_smaller:
        raise ConfigError(
            f"the direction of {config.monitor} is not known: expected whether larger or smaller values are better, "
            "received no mode. Give --monitor-mode max or --monitor-mode min."
        )


def check_metric(metric: str, names: Sequence[str]) -> None:
    """Raises ConfigError where a model with these metrics beside the loss does not have this one of the validation."""
    known = [f"val_{name}" for name in ("loss", *names)]
    if metric not in known:
        raise ConfigError(
            f"metric is unknown: expected one of {', '.join(known)}, received {metric!r}. Correct --metric."
        )
