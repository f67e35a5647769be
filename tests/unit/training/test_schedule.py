"""Learning rate schedules, by hand."""

import math
from typing import Any

import pytest

from annlib.config import load_config
from annlib.training.schedule import learning_rate


def rate(schedule: str, step: int) -> float:
    values: dict[str, Any] = {"workload": "w", "epochs": 10, "global_batch_size": 32, "learning_rate": 0.5}
    config = load_config({**values, "learning_rate_schedule": schedule}, defaults={}, environment={})
    # 100 samples in batches of 32 are 4 steps an epoch, 40 in all.
    found = learning_rate(config, 100)
    return float(found(step)) if callable(found) else found


@pytest.mark.parametrize("step", [0, 10, 40])
def test_each_schedule_is_its_formula(step: int) -> None:
    assert rate("constant", step) == 0.5
    assert rate("exponential", step) == pytest.approx(0.5 * 0.01 ** (step / 40), rel=1e-5)
    assert rate("cosine", step) == pytest.approx(0.5 * (1 + math.cos(math.pi * step / 40)) / 2, abs=1e-7)
