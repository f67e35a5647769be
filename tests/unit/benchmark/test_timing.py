"""The order of measurements and what is made of them, with a clock and trainers of the test's own."""

import contextlib
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from annlib.benchmark import timing
from annlib.benchmark.cases import CASES, Examples
from annlib.benchmark.sides import SIDES

EPOCH_S = {"keras": 0.4, "annlib": 0.0021}


class Clock:
    """Stands still but for what the trainers take."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


@pytest.fixture
def calls(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The (side, epochs) of all calls of trainers, in order; each side's process is this one."""
    calls: list[tuple[str, int]] = []

    class Trainer:
        def __init__(self, side: str) -> None:
            self.side, self.is_first = side, True
            clock.now += 0.25

        def train(self, epochs: int) -> float:
            calls.append((self.side, epochs))
            clock.now += epochs * EPOCH_S[self.side] + 3.0 * self.is_first
            self.is_first = False
            return 0.5

    @contextlib.contextmanager
    def child(label: str) -> Iterator[Any]:
        (side,) = [name for name, found in SIDES.items() if found.label == label]
        state: dict[str, Any] = {}

        def call(function: Callable[..., Any], *arguments: Any) -> Any:
            timing._trainer = state.get("trainer")  # type: ignore[assignment]
            value = function(*arguments)
            state["trainer"] = timing._trainer
            return value

        yield types.SimpleNamespace(call=call, side=side)

    def import_module(name: str) -> Any:
        clock.now += 2.0
        side = name.rsplit(".", 1)[-1]
        return types.SimpleNamespace(Trainer=lambda *arguments: Trainer(side))

    def load(name: str, **arguments: Any) -> Any:
        split = types.SimpleNamespace(x=np.zeros((4, 8), np.float32), y=np.zeros(4, np.float32))
        return types.SimpleNamespace(train=split, validation=split)

    monkeypatch.setattr(timing, "Child", child)
    monkeypatch.setattr(timing, "importlib", types.SimpleNamespace(import_module=import_module))
    monkeypatch.setattr("annlib.benchmark.cases.data.load", load)
    return calls


def test_each_side_starts_alone_and_then_takes_turns(calls: list[tuple[str, int]]) -> None:
    timing.measure("regressor", ["keras", "annlib"], rounds=2)
    # Ten epochs of Keras take 4 s; 24 times ten of annlib 0.504 s, just over the least that is measured.
    starts = [("keras", 10), ("keras", 10), ("keras", 10), ("annlib", 10), ("annlib", 10), ("annlib", 240)]
    assert calls == [*starts, *[("keras", 10), ("annlib", 240)] * 2]


def test_import_build_and_compilation_are_apart_from_the_epochs(calls: list[tuple[str, int]]) -> None:
    case = timing.measure("regressor", ["keras", "annlib"], rounds=3)
    for side, timed in case.sides.items():
        assert timed.epoch_s == pytest.approx([EPOCH_S[side]] * 3)
        assert (timed.start.import_s, timed.start.build_s) == (pytest.approx(2.0), pytest.approx(0.25))
        assert timed.compile_s == pytest.approx(3.0)
        assert timed.first_step_s == pytest.approx(5.25)
        assert timed.peak_memory_bytes > 10_000_000
    assert case.speed("annlib") == pytest.approx(0.4 / 0.0021)


def test_what_is_not_installed_or_has_no_such_model_is_left_out(
    calls: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annlib.benchmark.sides.importlib.util.find_spec", lambda name: name != "jax" or None)
    case = timing.measure("wide-deep", ["keras", "jax", "sklearn"], rounds=1)
    assert case.left_out == {"jax": "not installed", "sklearn": "has no such model"}
    assert list(case.sides) == ["keras"]


def test_other_frameworks_get_float32_rows_and_images_from_0_to_1() -> None:
    images = np.full((2, 28, 28), 255, np.uint8)
    (flat,) = Examples(x=(images,), y=np.zeros(2)).flat_x
    assert (flat.dtype, flat.shape, flat.max()) == (np.float32, (2, 784), 1.0)
    features = np.full((2, 8), 3.5, np.float32)
    assert Examples(x=(features,), y=np.zeros(2)).flat_x[0].max() == np.float32(3.5)


def test_the_layers_of_wide_and_deep() -> None:
    examples = Examples(x=(np.zeros((2, 5)), np.zeros((2, 6))), y=np.zeros(2))
    assert CASES["wide-deep"].layer_sizes(examples) == [(6, 30), (30, 30), (35, 1)]
