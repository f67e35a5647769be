"""The grammar of `--space`, one line for each mistake, and the points that are drawn."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from annlib.config import RunConfig, load_config
from annlib.errors import ConfigError
from annlib.tuning.space import Distribution, as_yaml, check_space, configure, default_space, describe, draw, read_space
from annlib.workloads import WORKLOADS, find


def base(workload: str = "digits", **values: Any) -> RunConfig:
    return load_config({"workload": workload, "name": "s", **values}, defaults=find(workload).defaults, environment={})


def read(tmp_path: Path, text: str, **values: Any) -> Any:
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return read_space(str(file), base(**values))


def test_all_distributions_are_read(tmp_path: Path) -> None:
    text = (
        "layers: {integer: [1, 5]}\nneurons: {log_integer: [10, 100]}\nlearning_rate: {log_uniform: [1e-4, 1e-1]}\n"
        "optimizer: {choice: [sgd, adam]}\nglobal_batch_size: {choice: [32, 64]}\n"
    )
    space = read(tmp_path, text)
    assert space["learning_rate"] == Distribution("log_uniform", (1e-4, 1e-1))
    assert space["neurons"] == Distribution("log_integer", (10, 100))
    assert read(tmp_path, yaml.safe_dump(as_yaml(space))) == space


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["names no hyperparameter", "learning_rate"]),
        ("- 1\n", ["holds a list"]),
        ("a: [\n", ["is not YAML"]),
        ("learning_rat: {uniform: [1, 2]}", ["'learning_rat'", "did you mean learning_rate?"]),
        ("epochs: {integer: [1, 2]}", ["'epochs'", "is unknown"]),
        ("learning_rate: 0.1", ["no distribution that fits", "log_uniform", "0.1"]),
        ("learning_rate: {normal: [0, 1]}", ["no distribution that fits", "normal"]),
        ("learning_rate: {uniform: [1, 2], choice: [1]}", ["no distribution that fits"]),
        ("optimizer: {uniform: [1, 2]}", ["no distribution that fits", "choice"]),
        ("optimizer: {choice: []}", ["no values"]),
        ("optimizer: {choice: adam}", ["no values", "'adam'"]),
        ("optimizer: {choice: [adam, sdg]}", ["optimizer", "'sgd'", "'sdg'"]),
        ("optimizer: {choice: [true]}", ["wrong choice", "True"]),
        ("activation: {choice: [relu, {a: b}]}", ["wrong choice"]),
        ("learning_rate: {log_uniform: [0.1, 0.001]}", ["wrong bounds", "the smaller one first", "[0.1, 0.001]"]),
        ("learning_rate: {log_uniform: [0, 1]}", ["wrong bounds", "above 0"]),
        ("learning_rate: {uniform: [0.1]}", ["wrong bounds", "two numbers"]),
        ("learning_rate: {uniform: [low, high]}", ["wrong bounds", "two numbers"]),
        ("learning_rate: {uniform: [.nan, 1]}", ["wrong bounds"]),
        ("learning_rate: {uniform: [-1, 1]}", ["learning_rate", "greater than 0", "-1.0"]),
        ("global_batch_size: {integer: [0.5, 2]}", ["wrong bounds", "whole numbers"]),
        ("global_batch_size: {integer: [0, 2]}", ["global_batch_size", "greater than or equal to 1"]),
        ("layers: {integer: [1, 3]}", ["has layers", "layers and neurons, or hidden alone"]),
        ("layers: {choice: [a]}\nneurons: {choice: [10]}", ["layers", "a whole number", "'a'"]),
        ("layers: {choice: [0]}\nneurons: {choice: [10]}", ["layers", "at least 1"]),
        ("layers: {choice: [1]}\nneurons: {integer: [0, 5]}", ["neurons", "greater than or equal to 1"]),
        ("layers: {choice: [1]}\nneurons: {choice: [5]}\nhidden: {choice: ['3']}", ["hidden alone"]),
        ("hidden: {choice: [[30, x]]}", ["hidden", "'30,x'"]),
        ("learning_rate: {choice: [1]}\nlearning_rate: {choice: [2]}", ["learning_rate is given twice", "line 2"]),
        ("? [a]\n: 1", ["is not YAML"]),
        ("learning_rate: {choice: [1], choice: [2]}", ["choice is given twice", "line 1"]),
        ("global_batch_size: {choice: [1" + "0" * 5000 + "]}", ["is not YAML"]),
        ("layers: {integer: [1, 150]}\nneurons: {choice: [10]}", ["layers", "at most 100"]),
        (
            "layers: {integer: [1, 1000000000000]}\nneurons: {choice: [10]}",
            ["layers", "at most 100, received 1000000000000"],
        ),
        (
            "layers: {choice: [1000000000000]}\nneurons: {choice: [10]}",
            ["layers", "at most 100, received 1000000000000"],
        ),
        (
            "global_batch_size: {integer: [1, 1" + "0" * 400 + "]}",
            ["global_batch_size", "at most 2147483648, received one of 401 digits"],
        ),
        ("global_batch_size: {choice: [1" + "0" * 400 + "]}", ["global_batch_size", "at most 2147483648"]),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    for part in [*parts, "space"]:
        assert part in message


def test_a_value_that_does_not_go_with_the_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rate_schedule"):
        read(tmp_path, "learning_rate_schedule: {choice: [constant, cosine]}", reduce_lr_patience=2)


@pytest.mark.parametrize(
    ("distribution", "reference"),
    [
        (Distribution("uniform", (2.0, 5.0)), stats.uniform(2.0, 3.0)),
        (Distribution("log_uniform", (1e-4, 1e-1)), stats.loguniform(1e-4, 1e-1)),
        (Distribution("integer", (1, 5)), stats.randint(1, 6)),
    ],
)
def test_values_are_quantiles_of_scipys_distribution(distribution: Distribution, reference: Any) -> None:
    for u in np.linspace(0.001, 0.999, 57):
        assert distribution.at(float(u)) == pytest.approx(reference.ppf(u), rel=1e-9)


def test_bounds_that_are_as_far_apart_as_numbers_can_be_are_kept() -> None:
    distribution = Distribution("log_uniform", (5e-324, 1e308))
    for u in np.linspace(0, 1, 57)[:-1]:
        assert 5e-324 <= float(distribution.at(float(u))) <= 1e308


def test_log_integers_reach_both_bounds_and_have_the_weight_of_their_interval() -> None:
    values = [Distribution("log_integer", (10, 100)).at(u) for u in np.linspace(0, 1, 200_001)[:-1]]
    assert (min(values), max(values)) == (10, 100)
    for n in (10, 37, 100):
        assert values.count(n) / len(values) == pytest.approx(np.log((n + 1) / n) / np.log(101 / 10), rel=1e-2)


def test_choices_are_equally_likely() -> None:
    values = [Distribution("choice", ("a", "b", "c")).at(u) for u in np.linspace(0, 1, 301)[:-1]]
    assert [values.count(value) for value in "abc"] == [100, 100, 100]


@pytest.mark.parametrize("name", [name for name, workload in WORKLOADS.items() if workload.is_mlp])
def test_points_of_the_default_space_differ_and_more_of_them_begin_with_the_same(name: str) -> None:
    config = base(name)
    space = default_space(find(name), config)
    points = draw(space, config, 30)
    configs = {configure(config, point) for point in points}
    assert len(configs) == 30
    assert config not in configs
    assert draw(space, config, 7) == points[:7]
    assert draw(space, base(name, seed=1), 7) != points[:7]


@pytest.mark.parametrize(("hidden", "neurons"), [("300,100", (100, 300)), (30, (10, 100)), ((50, 20), (10, 100))])
def test_the_default_layers_of_ones_own_mlp_may_be_written_as_in_a_file(hidden: Any, neurons: tuple[int, int]) -> None:
    digits = find("digits")
    own = dataclasses.replace(digits, defaults={**digits.defaults, "hidden": hidden})
    assert default_space(own, base())["neurons"].values == neurons


def test_a_configuration_of_ones_own_may_hold_a_list() -> None:
    class Own(RunConfig):
        tags: list[str]

    config = Own(workload="own.py:w", name="s", epochs=1, global_batch_size=32, learning_rate=0.1, tags=["a"])
    assert len(draw({"global_batch_size": Distribution("choice", (32, 64, 128))}, config, 5)) == 2


@pytest.mark.parametrize(
    ("values", "left_out"),
    [
        ({"reduce_lr_patience": 2}, "learning_rate_schedule"),
        ({"precision": "mixed_bfloat16", "global_batch_size": 256}, "global_batch_size"),
    ],
)
@pytest.mark.parametrize("workload", ["digits", "wide-deep-housing"])
def test_the_default_space_leaves_out_what_the_configuration_refuses(
    workload: str, values: dict[str, Any], left_out: str
) -> None:
    whole, config = default_space(find(workload), base(workload)), base(workload, **values)
    space = default_space(find(workload), config)
    assert space.keys() == whole.keys() - {left_out}
    check_space(space, config, "the default space")


def test_of_a_choice_the_values_that_the_configuration_takes_stay() -> None:
    config = base(gradient_accumulation=100, global_batch_size=128)
    assert default_space(find("digits"), config)["global_batch_size"].values == (128, 256)


def test_a_small_space_gives_each_point_once(tmp_path: Path) -> None:
    space = read(tmp_path, "optimizer: {choice: [sgd, adam]}\nglobal_batch_size: {choice: [32, 64]}\n")
    # The base is (sgd, 32) itself.
    found = {(point["optimizer"], point["global_batch_size"]) for point in draw(space, base(), 20)}
    assert found == {("sgd", 64), ("adam", 32), ("adam", 64)}


def test_a_point_becomes_a_configuration_and_is_described() -> None:
    space = {"layers": Distribution("integer", (1, 5)), "neurons": Distribution("integer", (1, 9))}
    config = configure(base(), {"layers": 3, "neurons": 7}, name="trial-001")
    assert (config.hidden, config.name) == ((7, 7, 7), "trial-001")
    assert describe(config, space) == {"layers": 3, "neurons": 7}
    assert describe(base(), space) == {"layers": 2, "neurons": 300}
