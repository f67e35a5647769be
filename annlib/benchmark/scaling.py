"""Training on several workers: what was measured, and the model of scaling that is fitted to it."""

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping
from typing import Any

from annlib.benchmark.ring import NETWORKS, Compute, Link, fit_compute, fit_link

NUM_FEATURES = 784
NUM_CLASSES = 10
# Models by name: hidden layers, and steps of a measurement.
MODELS: Mapping[str, tuple[tuple[int, ...], int]] = {
    "784-300-100-10": ((300, 100), 200),
    "784-4096-4096-10": ((4096, 4096), 4),
}
# Weak scaling: rows of each worker. Strong scaling: rows of all.
ROWS = 32
WORLD_SIZES = (1, 2, 4)
# Rows of one worker, whose steps tell what computing costs without communication.
COMPUTE_ROWS = (8, 16, 32, 128)
# Beside the sizes of the models' gradients.
ALL_REDUCE_BYTES = (1024, 16 * 1024, 128 * 1024, 8 * 1024**2)
MEMORY_PROCESSES = 4
PROJECTED_WORKERS = (8, 16, 32, 64, 128, 256, 512)
# Rows of all workers in the projected strong scaling: as many for each of 512 as in the weak one.
PROJECTED_ROWS = 512 * ROWS
SIDES = ("annlib", "bare")


@dataclasses.dataclass(frozen=True, order=True)
class Setting:
    """What is timed.

    Args:
        model: its name.
        num_workers: processes.
        rows: of the global batch.
    """

    model: str
    num_workers: int
    rows: int


@dataclasses.dataclass(kw_only=True)
class Scaling:
    """What was measured, in seconds, a value a round.

    Args:
        num_cores: cores that the workers shared.
        steps: of a step by setting and side, "annlib" or "bare".
        all_reduces: of a bare all-reduce by (side, number of workers, bytes): "annlib", under annlib's strategy, whose
            servers pass larger pieces, and "bare", under TensorFlow's as it comes.
        peak_memory_bytes: sums over `MEMORY_PROCESSES`: "annlib", workers of one strategy, and "keras", each alone.
    """

    num_cores: int
    steps: dict[Setting, dict[str, list[float]]]
    all_reduces: dict[tuple[str, int, int], list[float]]
    peak_memory_bytes: dict[str, int]

    def step_s(self, side: str, setting: Setting) -> float:
        """Returns the median time of a step."""
        return statistics.median(self.steps[setting][side])

    def all_reduce_s(self, side: str, num_workers: int, num_bytes: int) -> float:
        """Returns the median time of a bare all-reduce."""
        return statistics.median(self.all_reduces[side, num_workers, num_bytes])

    def compute(self, side: str, model: str) -> Compute:
        """Returns what a step costs one worker that has a core of its own."""
        settings = [setting for setting in self.steps if (setting.model, setting.num_workers) == (model, 1)]
        return fit_compute([s.rows for s in settings], [self.step_s(side, s) for s in settings])

    def link(self, side: str, num_workers: int) -> Link:
        """Returns latency and bandwidth of the all-reduces of so many workers here."""
        sizes = [num_bytes for *key, num_bytes in self.all_reduces if key == [side, num_workers]]
        return fit_link(sizes, [self.all_reduce_s(side, num_workers, size) for size in sizes], num_workers)

    def predicted_s(self, side: str, setting: Setting, *, link_of: int = 2) -> float:
        """Returns what the model of scaling predicts for a step: computing, then the collectives as rings.

        Workers that share a core compute one after the other.

        Args:
            side: "annlib", which exchanges factors where they are smaller than gradients, or "bare".
            setting: model, workers and rows.
            link_of: the number of workers whose all-reduces tell latency and bandwidth.
        """
        crowding = max(1.0, setting.num_workers / self.num_cores)
        return self._step_s(side, setting, self.link(side, link_of), crowding=crowding)

    def projected_s(self, model: str, num_workers: int, rows: int, link: Link) -> float:
        """Returns a step's time on so many workers, each with a core like these, connected by `link`."""
        return self._step_s("annlib", Setting(model, num_workers, rows), link, crowding=1.0)

    def _step_s(self, side: str, setting: Setting, link: Link, *, crowding: float) -> float:
        model, num_workers, rows = setting.model, setting.num_workers, setting.rows
        own_rows = rows / num_workers
        gathered = exchange(model, rows) if side == "annlib" else Exchange()
        # One of a layer's three products is that of the factors, with the rows of all workers.
        share = gathered.gradient_bytes / gradient_bytes(model)
        computing = crowding * self.compute(side, model).step_s(own_rows + share / 3 * (rows - own_rows))
        gathering = link.all_gather_s(gathered.factor_bytes, num_workers) if gathered.factor_bytes else 0.0
        return computing + gathering + link.all_reduce_s(gradient_bytes(model) - gathered.gradient_bytes, num_workers)

    def weak_efficiency(self, model: str, num_workers: int, link: Link) -> float:
        """Returns the projected work of a worker in a second, as a share of a lone worker's; `ROWS` rows each."""
        return self.compute("annlib", model).step_s(ROWS) / self.projected_s(
            model, num_workers, ROWS * num_workers, link
        )

    def strong_speed_up(self, model: str, num_workers: int, link: Link) -> float:
        """Returns how many times faster a step on `PROJECTED_ROWS` rows becomes."""
        return self.compute("annlib", model).step_s(PROJECTED_ROWS) / self.projected_s(
            model, num_workers, PROJECTED_ROWS, link
        )

    def networks(self) -> dict[str, tuple[Link, Link]]:
        """Returns (the network alone, the network behind the collectives' own cost as measured here) by name."""
        return {name: (network, network.after(self.link("annlib", 2))) for name, network in NETWORKS.items()}


def gradient_bytes(model: str) -> int:
    """Returns the bytes of all weights and biases of a model in float32."""
    return 4 * sum((inputs + 1) * outputs for inputs, outputs in _kernels(model))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Exchange:
    """Bytes of the factors that annlib gathers in a step, of all workers, and of the gradients that they stand for."""

    factor_bytes: int = 0
    gradient_bytes: int = 0


def exchange(model: str, rows: int) -> Exchange:
    """Returns what is gathered in a step on so many rows of all workers."""
    from annlib.training.engine.factors import are_smaller

    kernels = [kernel for kernel in _kernels(model) if are_smaller(kernel, rows)]
    return Exchange(factor_bytes=4 * rows * sum(map(sum, kernels)), gradient_bytes=4 * sum(map(math.prod, kernels)))


def _kernels(model: str) -> list[tuple[int, int]]:
    return list(itertools.pairwise((NUM_FEATURES, *MODELS[model][0], NUM_CLASSES)))


def weak(model: str) -> list[Setting]:
    """Returns the settings whose workers have as many rows each."""
    return [Setting(model, count, ROWS * count) for count in WORLD_SIZES]


def strong(model: str) -> list[Setting]:
    """Returns the settings that have as many rows in all."""
    return [Setting(model, count, ROWS) for count in WORLD_SIZES]


def figures(scaling: Scaling) -> dict[str, Any]:
    """Returns what was measured, and what follows from it, as JSON takes it."""
    links = {side: {count: scaling.link(side, count) for count in WORLD_SIZES if count > 1} for side in SIDES}
    return {
        "num_cores": scaling.num_cores,
        "steps": [
            {**dataclasses.asdict(setting), "annlib_s": found["annlib"], "bare_s": found["bare"]}
            | {"predicted_s": {side: scaling.predicted_s(side, setting) for side in SIDES}}
            for setting, found in scaling.steps.items()
        ],
        "all_reduces": [
            {"side": side, "num_workers": count, "bytes": size, "seconds": seconds}
            for (side, count, size), seconds in scaling.all_reduces.items()
        ],
        "links": {side: {n: dataclasses.asdict(link) for n, link in found.items()} for side, found in links.items()},
        "peak_memory_bytes": scaling.peak_memory_bytes,
    }
