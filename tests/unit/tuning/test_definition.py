"""What is refused before a search starts, and what it decides by."""

from pathlib import Path
from typing import Any

import pytest

from annlib.config import load_config
from annlib.errors import ConfigError
from annlib.tuning.definition import Search, define
from annlib.workloads import find


def make(workload: str = "digits", *, metric: str | None = None, num_trials: int = 4, **values: Any) -> Search:
    found = find(workload)
    config = load_config({"workload": workload, "name": "s", **values}, defaults=found.defaults, environment={})
    return define(config, found, num_trials=num_trials, metric=metric)


@pytest.mark.parametrize("workload", ["iris-perceptron", "wide-deep-housing"])
def test_of_a_model_that_is_no_mlp_rate_and_batch_are_searched(workload: str, tmp_path: Path) -> None:
    search = make(workload)
    rate = search.config.learning_rate
    assert list(search.space) == ["learning_rate", "global_batch_size"]
    assert search.space["learning_rate"].values == pytest.approx((rate / 10, rate * 10))
    space = tmp_path / "space.yaml"
    space.write_text("layers: {integer: [1, 2]}\nneurons: {integer: [1, 2]}\n")
    with pytest.raises(ConfigError, match=f"^layers, neurons of --space .* cannot be tuned for {workload}"):
        define(search.config, find(workload), num_trials=2, space_file=space)


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected one of val_loss, val_sparse_categorical_accuracy, received 'loss'"):
        make(metric="loss")


def test_workers_of_a_trial_are_refused() -> None:
    with pytest.raises(ConfigError, match="--concurrency"):
        make(num_workers=2)


@pytest.mark.parametrize(
    ("workload", "metric", "larger"),
    [("digits", "val_sparse_categorical_accuracy", True), ("diabetes", "val_loss", False)],
)
def test_the_metric_is_the_workloads(workload: str, metric: str, larger: bool) -> None:
    search = make(workload)
    assert (search.config.monitor, search.larger_is_better) == (metric, larger)


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(1, [1]), (2, [1, 2]), (10, [1, 3, 9, 10]), (30, [3, 9, 27, 30]), (100, [10, 30, 90, 100])]
)
def test_rungs_begin_with_a_tenth_and_grow_threefold(epochs: int, rungs: list[int]) -> None:
    assert make(epochs=epochs).rungs == rungs


def test_the_identity_does_not_depend_on_where_the_search_is_kept(tmp_path: Path) -> None:
    assert make(storage=tmp_path).identity() == make().identity()
    assert make(seed=1).identity() != make().identity()
