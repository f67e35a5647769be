"""What is refused before a search starts, and what it decides by."""

from pathlib import Path
from typing import Any

import pytest

from annlib.config import load_config
from annlib.errors import ConfigError
from annlib.training.workload import Workload
from annlib.tuning.definition import Search, define
from annlib.workloads import find


def make(
    workload: str | Workload = "digits", *, metric: str | None = None, mode: str | None = None, **values: Any
) -> Search:
    found = find(workload) if isinstance(workload, str) else workload
    config = load_config({"workload": found.name, "name": "s", **values}, defaults=found.defaults, environment={})
    return define(config, found, num_trials=4, metric=metric, monitor_mode=mode)


def own(**values: Any) -> Workload:
    def never(*arguments: Any) -> Any:
        raise AssertionError

    return Workload(load_data=never, build_model=never, name="own.py:w", **values)


@pytest.mark.parametrize("workload", ["iris-perceptron", "wide-deep-housing"])
def test_of_a_model_that_is_no_mlp_rate_and_batch_are_searched(workload: str, tmp_path: Path) -> None:
    search = make(workload)
    rate = search.config.learning_rate
    assert list(search.space) == ["learning_rate", "global_batch_size"]
    assert search.space["learning_rate"].values == pytest.approx((rate / 10, rate * 10))
    space = tmp_path / "space.yaml"
    space.write_text("layers: {integer: [1, 2]}\nneurons: {integer: [1, 2]}\n")
    with pytest.raises(ConfigError, match=f"^layers, neurons of --space .* cannot be tuned for {workload}"):
        define(search.config, find(workload), num_trials=2, space_file=str(space))


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


def test_a_configuration_names_the_metric_and_its_mode() -> None:
    loss = make(monitor="val_loss")
    assert (loss.config.monitor, loss.larger_is_better) == ("val_loss", False)
    score = make(own(), monitor="val_score", monitor_mode="max")
    assert (score.config.monitor, score.larger_is_better) == ("val_score", True)


def test_the_mode_of_another_metric_says_nothing() -> None:
    search = make(metric="val_sparse_categorical_accuracy", monitor="val_loss", monitor_mode="min")
    assert (search.config.monitor_mode, search.larger_is_better) == ("auto", True)


@pytest.mark.parametrize(
    "metric", ["val_f1", "val_cosine_similarity", "val_mean_io_u", "val_score", "val_accuracy_loss"]
)
def test_a_metric_whose_direction_nobody_knows_needs_a_mode(metric: str) -> None:
    with pytest.raises(ConfigError, match=f"^the direction of {metric} is not known: .* Give --monitor-mode"):
        make(own(), metric=metric)
    assert make(own(), metric=metric, mode="max").larger_is_better
    assert not make(own(), metric=metric, mode="min").larger_is_better


@pytest.mark.parametrize("metric", ["val_loss", "val_main_loss", "val_rmse", "val_mean_absolute_error"])
def test_losses_and_errors_are_better_when_smaller(metric: str) -> None:
    assert not make(own(), metric=metric).larger_is_better


@pytest.mark.parametrize("metric", ["val_accuracy", "val_auc", "val_f1_score"])
def test_known_scores_are_better_when_larger(metric: str) -> None:
    assert make(own(), metric=metric).larger_is_better


def test_a_classifier_of_ones_own_without_names_of_metrics_is_compared_by_its_loss() -> None:
    assert make(own(output="probabilities")).config.monitor == "val_loss"


@pytest.mark.parametrize(
    ("epochs", "rungs"), [(1, [1]), (2, [1, 2]), (10, [1, 3, 9, 10]), (30, [3, 9, 27, 30]), (100, [10, 30, 90, 100])]
)
def test_rungs_begin_with_a_tenth_and_grow_threefold(epochs: int, rungs: list[int]) -> None:
    assert make(epochs=epochs).rungs == rungs


def test_the_identity_does_not_depend_on_where_the_search_is_kept(tmp_path: Path) -> None:
    assert make(storage=tmp_path).identity() == make().identity()
    assert make(seed=1).identity() != make().identity()
