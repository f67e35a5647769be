"""The model of scaling, on times that were made up."""

import pytest

from annlib.benchmark.ring import Link
from annlib.benchmark.scaling import (
    COMPUTE_ROWS,
    MODELS,
    ROWS,
    Exchange,
    Scaling,
    Setting,
    exchange,
    figures,
    gradient_bytes,
    strong,
    weak,
)
from annlib.training.engine import factors

SMALL, WIDE = MODELS


def step_s(setting: Setting) -> float:
    """2 cores, a fixed 1 ms, 0.1 ms a row, alpha 0.2 ms, 1 GB/s."""
    workers = setting.num_workers
    computing = (1e-3 + 1e-4 * setting.rows / workers) * max(1, workers / 2)
    return computing + 2 * (workers - 1) * (2e-4 + gradient_bytes(setting.model) / workers / 1e9)


@pytest.fixture
def scaling() -> Scaling:
    settings = {s for model in MODELS for s in [*weak(model), *strong(model)]}
    settings |= {Setting(model, 1, rows) for model in MODELS for rows in COMPUTE_ROWS}
    sizes = [1024, 1024**2, gradient_bytes(WIDE), gradient_bytes(SMALL)]
    return Scaling(
        num_cores=2,
        steps={s: {"annlib": [step_s(s)], "bare": [2 * step_s(s), 9.0, step_s(s)]} for s in settings},
        all_reduces={
            (side, p, n): [factor * 2 * (p - 1) * (2e-4 + n / p / 1e9)]
            for side, factor in (("annlib", 1), ("bare", 3))
            for p in (2, 4)
            for n in sizes
        },
        peak_memory_bytes={"annlib": 4_000_000, "keras": 5_000_000},
    )


def test_the_bytes_of_a_step_are_those_of_the_book_s_266_610_parameters() -> None:
    assert gradient_bytes(SMALL) == 4 * 266_610


def test_a_step_is_the_median_of_the_rounds(scaling: Scaling) -> None:
    setting = Setting(SMALL, 2, ROWS)
    assert scaling.step_s("bare", setting) == pytest.approx(2 * step_s(setting))


@pytest.mark.parametrize("model", MODELS)
def test_the_prediction_finds_what_the_times_were_made_of(
    monkeypatch: pytest.MonkeyPatch, scaling: Scaling, model: str
) -> None:
    monkeypatch.setattr(factors, "_MAX_ROWS", 0)
    for setting in [*weak(model), *strong(model)]:
        assert scaling.predicted_s("annlib", setting) == pytest.approx(step_s(setting)), setting
        assert scaling.predicted_s("annlib", setting, link_of=4) == pytest.approx(step_s(setting)), setting


def test_factors_are_gathered_and_multiplied_in_place_of_what_they_stand_for(scaling: Scaling) -> None:
    # Of 784 x 300 and 300 x 100, with 32 rows: 32 * (784 + 300 + 300 + 100) and 784 * 300 + 300 * 100 values.
    assert exchange(SMALL, 32) == Exchange(factor_bytes=4 * 47_488, gradient_bytes=4 * 265_200)
    assert exchange(SMALL, 300) == Exchange()
    # 16 rows and a third of the other 16 for nearly all weights; 1 * alpha and 2 * alpha; half of the bytes' time each.
    computing_s = 1e-3 + 1e-4 * (16 + 16 / 3 * 265_200 / 266_610)
    rings_s = 3 * 2e-4 + (4 * 47_488 / 2 + 4 * (266_610 - 265_200)) / 1e9
    assert scaling.predicted_s("annlib", Setting(SMALL, 2, 32)) == pytest.approx(computing_s + rings_s)
    assert scaling.predicted_s("annlib", Setting(SMALL, 1, 32)) == pytest.approx(step_s(Setting(SMALL, 1, 32)))


def test_a_network_without_cost_scales_perfectly(scaling: Scaling) -> None:
    free = Link(alpha_s=0.0, s_per_byte=0.0)
    assert scaling.weak_efficiency(SMALL, 512, free) == pytest.approx(1.0)
    # 1 ms of each step does not get shorter: (1 + 1638.4) / (1 + 3.2).
    assert scaling.strong_speed_up(SMALL, 512, free) == pytest.approx(1639.4 / 4.2)


def test_a_slow_network_makes_more_workers_worse(scaling: Scaling) -> None:
    slow = Link(alpha_s=1e-3, s_per_byte=1e-8)
    assert scaling.weak_efficiency(SMALL, 512, slow) < scaling.weak_efficiency(SMALL, 8, slow) < 0.3


def test_the_figures_are_plain(scaling: Scaling) -> None:
    found = figures(scaling)
    assert found["links"]["annlib"][2] == {"alpha_s": pytest.approx(2e-4), "s_per_byte": pytest.approx(1e-9)}
    assert found["links"]["bare"][2] == {"alpha_s": pytest.approx(6e-4), "s_per_byte": pytest.approx(3e-9)}
    assert {(s["model"], s["num_workers"], s["rows"]) for s in found["steps"]} >= {(SMALL, 1, 8), (WIDE, 4, 128)}
