"""The configuration makes the model of an MLP workload, and of no other."""

from typing import Any

import keras
import pytest

from annlib.config import load_config
from annlib.errors import ConfigError
from annlib.workloads import WORKLOADS, find


def build(workload: str, **values: Any) -> keras.Model:
    found = find(workload)
    config = load_config({"workload": workload, **values}, defaults=found.defaults, environment={})
    found.check(config)
    return found.build_model(found.load(config), config)


def dense(model: keras.Model) -> list[tuple[int, str]]:
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    return [(layer.units, layer.activation.__name__) for layer in layers]


@pytest.mark.parametrize(
    ("workload", "layers"),
    [
        ("digits", [(300, "relu"), (100, "relu"), (10, "softmax")]),
        ("diabetes", [(30, "relu"), (1, "linear")]),
    ],
)
def test_the_default_is_the_books_model(workload: str, layers: list[tuple[int, str]]) -> None:
    model = build(workload)
    assert dense(model) == layers
    assert type(model.optimizer) is keras.optimizers.SGD
    assert model.optimizer.momentum == 0.0


@pytest.mark.parametrize(("workload", "output"), [("digits", (10, "softmax")), ("diabetes", (1, "linear"))])
def test_the_configuration_shapes_the_model(workload: str, output: tuple[int, str]) -> None:
    model = build(workload, hidden="20,10,20", activation="selu", optimizer="nesterov", learning_rate=0.25)
    assert dense(model) == [(20, "selu"), (10, "selu"), (20, "selu"), output]
    assert (model.optimizer.nesterov, float(model.optimizer.learning_rate)) == (True, 0.25)


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="hidden is missing"):
        build("digits", hidden=None)


@pytest.mark.parametrize("name", [name for name, workload in WORKLOADS.items() if not workload.is_mlp])
def test_a_model_that_is_no_mlp_takes_none_of_it(name: str) -> None:
    workload = find(name)
    for values in ({"hidden": "30"}, {"activation": "relu"}, {"optimizer": "sgd"}):
        config = load_config({"workload": name, **values}, defaults=workload.defaults, environment={})
        with pytest.raises(ConfigError, match=f"{next(iter(values))} does not fit {name}"):
            workload.check(config)
