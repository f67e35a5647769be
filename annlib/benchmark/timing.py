"""Times all frameworks on one case: each in a process of its own, in turn, the others asleep meanwhile."""

import contextlib
import dataclasses
import importlib
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from annlib.benchmark.cases import CASES, initial_weights
from annlib.benchmark.child import Child
from annlib.benchmark.sides import SIDES, Trainer
from annlib.memory import peak_memory_bytes

# One measurement takes at least about this long.
MEASURE_S = 0.5
# Sides that train the same thing differ by less than this in their losses, relative; their batches may be drawn in
# another order.
SAME_LOSS = 0.05


@dataclasses.dataclass(kw_only=True)
class Start:
    """What comes before the first epoch at full speed.

    Args:
        import_s: seconds to import the framework.
        build_s: to build the model and to bring the data to the device.
        first_call_s: of the first call, which also traces and compiles.
        loss: of the last epoch of that call.
    """

    import_s: float
    build_s: float
    first_call_s: float
    loss: float | None


@dataclasses.dataclass(kw_only=True)
class SideTiming:
    """What was measured of one side.

    Args:
        start: its start.
        compile_s: seconds that its first call took more than the same call takes later.
        epochs: epochs of a measurement.
        epoch_s: seconds an epoch, one value a round.
        peak_memory_bytes: largest memory of its process.
    """

    start: Start
    compile_s: float
    epochs: int
    epoch_s: list[float] = dataclasses.field(default_factory=list)
    peak_memory_bytes: int = 0

    @property
    def median_s(self) -> float:
        """Median of the seconds an epoch."""
        return statistics.median(self.epoch_s)

    @property
    def first_step_s(self) -> float:
        """Seconds from an empty process to the end of the first step."""
        return self.start.import_s + self.start.build_s + self.compile_s


@dataclasses.dataclass(kw_only=True)
class CaseTiming:
    """What was measured of one case.

    Args:
        sides: by name, those that took part.
        left_out: why the others did not.
    """

    sides: dict[str, SideTiming]
    left_out: dict[str, str]

    def speed(self, side: str, *, of: str = "keras") -> float:
        """Returns how many times faster a side is than another: a ratio of medians."""
        return self.sides[of].median_s / self.sides[side].median_s

    @property
    def gemm_share(self) -> float:
        """The time of the matrix products alone over annlib's."""
        return self.speed("annlib", of="gemm") if "gemm" in self.sides else math.nan

    @property
    def extras_share(self) -> float:
        """What metrics, validation, callbacks and progress add to annlib's epoch, as a share of it."""
        return self.speed("annlib", of="annlib-all") - 1

    def other_losses(self) -> list[str]:
        """Returns the sides whose loss is not Keras' one: they do not train the same."""
        expected = self.sides["keras"].start.loss
        assert expected is not None
        losses = {name: side.start.loss for name, side in self.sides.items()}
        return [n for n, loss in losses.items() if loss is not None and abs(loss / expected - 1) > SAME_LOSS]


def measure(name: str, sides: Sequence[str], *, rounds: int, data_dir: Path | None = None) -> CaseTiming:
    """Times the sides in turn, so that what else happens on the machine hits all alike.

    Args:
        name: of the case.
        sides: names of the sides; those that are not installed, or have no such model, are left out.
        rounds: measurements of each side, 1 or more.
        data_dir: directory with the raw data files.

    Raises:
        DataError: the data cannot be found.
        TrainingError: a side failed.
    """
    left_out = {side: reason for side in sides if (reason := _reason_to_leave_out(name, side))}
    timings = {}
    with contextlib.ExitStack() as stack:
        children = {}
        for side in (side for side in sides if side not in left_out):
            child = children[side] = stack.enter_context(Child(SIDES[side].label))
            timings[side] = _start(child, name, side, data_dir)
        for _ in range(rounds):
            for side, timing in timings.items():
                timing.epoch_s.append(children[side].call(_train, timing.epochs)[0] / timing.epochs)
        for side, timing in timings.items():
            timing.peak_memory_bytes = children[side].call(peak_memory_bytes)
    return CaseTiming(sides=timings, left_out=left_out)


def _reason_to_leave_out(name: str, side: str) -> str | None:
    if not SIDES[side].is_installed:
        return "not installed"
    return "has no such model" if name in SIDES[side].leaves_out else None


def _start(child: Child, name: str, side: str, data_dir: Path | None) -> SideTiming:
    start: Start = child.call(_prepare, name, side, data_dir)
    epochs = CASES[name].epochs
    seconds, _ = child.call(_train, epochs)
    timing = SideTiming(
        start=start,
        compile_s=max(0.0, start.first_call_s - seconds),
        # A multiple, because annlib chooses how to compile by the number of steps.
        epochs=epochs * math.ceil(MEASURE_S / seconds),
    )
    child.call(_train, timing.epochs)
    return timing


_trainer: Trainer  # of a child's process


def _prepare(name: str, side: str, data_dir: Path | None) -> Start:
    """Runs in the child: makes its trainer and calls it for the first time."""
    global _trainer
    import_s, module = _timed(importlib.import_module, f"annlib.benchmark.sides.{SIDES[side].module}")
    case = CASES[name]
    train, validation = case.load(data_dir)
    weights = initial_weights(case, train)
    build_s, _trainer = _timed(getattr(module, SIDES[side].trainer), case, train, validation, weights)
    first_call_s, loss = _train(case.epochs)
    return Start(import_s=import_s, build_s=build_s, first_call_s=first_call_s, loss=loss)


def _train(epochs: int) -> tuple[float, float | None]:
    return _timed(_trainer.train, epochs)


def _timed(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    started = time.perf_counter()
    value = function(*arguments)
    return time.perf_counter() - started, value
