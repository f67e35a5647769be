"""Times training on 1, 2 and 4 workers of this machine, each pinned to a core."""

import contextlib
import itertools
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from annlib.benchmark.child import Child, call_all
from annlib.benchmark.scaling import (
    ALL_REDUCE_BYTES,
    COMPUTE_ROWS,
    MEMORY_PROCESSES,
    MODELS,
    SIDES,
    WORLD_SIZES,
    Scaling,
    Setting,
    gradient_bytes,
    strong,
    weak,
)

# A measurement of an all-reduce takes at least about this long.
ALL_REDUCE_MEASURE_S = 0.3
# No answer of a worker takes longer.
TIMEOUT_S = 300.0


def measure_scaling(*, rounds: int, data_dir: Path | None = None) -> Scaling:
    """Times steps and all-reduces in turn, `rounds` times, then measures the memory.

    Args:
        rounds: measurements of each, 1 or more.
        data_dir: directory with the raw data files, of which the memory of Fashion-MNIST is measured.

    Raises:
        DataError: Fashion-MNIST cannot be found.
        TrainingError: a worker failed, or did not answer.
    """
    from annlib.benchmark import worker

    cores = sorted(os.sched_getaffinity(0))
    steps: dict[Setting, dict[str, list[float]]] = {}
    all_reduces: dict[tuple[str, int, int], list[float]] = {}
    with contextlib.ExitStack() as stack:
        groups = {pair: stack.enter_context(_group(pair[1], cores)) for pair in itertools.product(SIDES, WORLD_SIZES)}
        for (side, _), children in groups.items():
            call_all(children, worker.join, side, timeout_s=TIMEOUT_S)
        for count in WORLD_SIZES:
            if count > 1:
                all_reduces |= _measure_all_reduces({side: groups[side, count] for side in SIDES}, rounds)
        for model in MODELS:
            of_model, all_reduces_of_model = _measure_steps(model, groups, rounds)
            steps |= of_model
            all_reduces |= all_reduces_of_model
    return Scaling(
        num_cores=len(cores),
        steps=steps,
        all_reduces=all_reduces,
        peak_memory_bytes=_measure_memory(cores, data_dir),
    )


def _measure_steps(
    model: str, groups: Mapping[tuple[str, int], list[Child]], rounds: int
) -> tuple[dict[Setting, dict[str, list[float]]], dict[tuple[str, int, int], list[float]]]:
    """Times the steps and, in turn with them, the bare all-reduces of as many bytes."""
    from annlib.benchmark import worker

    run = {"annlib": worker.annlib_step_s, "bare": worker.bare_step_s}
    hidden, num_steps = MODELS[model]
    alone = [Setting(model, 1, rows) for rows in COMPUTE_ROWS]
    settings = sorted({*weak(model), *strong(model), *alone})
    size = gradient_bytes(model)
    found: dict[Setting, dict[str, list[float]]] = {s: {side: [] for side in SIDES} for s in settings}
    all_reduces: dict[tuple[str, int, int], list[float]] = {(*pair, size): [] for pair in groups if pair[1] > 1}
    # The first round traces.
    for number in range(-1, rounds):
        for setting, side in itertools.product(settings, SIDES):
            seconds = _slowest_s(groups[side, setting.num_workers], run[side], hidden, setting.rows, num_steps)
            if number >= 0:
                found[setting][side].append(seconds)
        for side, count, _ in all_reduces:
            seconds = _slowest_s(groups[side, count], worker.all_reduce_s, size // 4, num_steps)
            if number >= 0:
                all_reduces[side, count, size].append(seconds)
    return found, all_reduces


def _measure_all_reduces(groups: Mapping[str, list[Child]], rounds: int) -> dict[tuple[str, int, int], list[float]]:
    """Times the bare all-reduces of the workers of each side."""
    from annlib.benchmark import worker

    def seconds(side: str, size: int, count: int) -> float:
        return _slowest_s(groups[side], worker.all_reduce_s, size // 4, count)

    counts = {}
    for side, size in itertools.product(groups, ALL_REDUCE_BYTES):
        seconds(side, size, 1)
        counts[side, size] = max(2, round(ALL_REDUCE_MEASURE_S / seconds(side, size, 2)))
    found: dict[tuple[str, int, int], list[float]] = {
        (side, len(children), size): []
        for (side, children), size in itertools.product(groups.items(), ALL_REDUCE_BYTES)
    }
    for _, size, side in itertools.product(range(rounds), ALL_REDUCE_BYTES, groups):
        found[side, len(groups[side]), size].append(seconds(side, size, counts[side, size]))
    return found


def _slowest_s(children: list[Child], function: Callable[..., float], *arguments: Any) -> float:
    """Returns the seconds of the slowest worker, which is the one that counts."""
    return float(max(call_all(children, function, *arguments, timeout_s=TIMEOUT_S)))


def _measure_memory(cores: list[int], data_dir: Path | None) -> dict[str, int]:
    """The processes of a kind run all at once."""
    from annlib.benchmark import worker

    with _group(MEMORY_PROCESSES, cores) as children:
        call_all(children, worker.join, "annlib", timeout_s=TIMEOUT_S)
        annlib = sum(call_all(children, worker.peak_memory_of_annlib, data_dir, timeout_s=TIMEOUT_S))
    with _group(MEMORY_PROCESSES, cores) as children:
        keras = sum(call_all(children, worker.peak_memory_of_keras, data_dir, timeout_s=TIMEOUT_S))
    return {"annlib": annlib, "keras": keras}


@contextlib.contextmanager
def _group(num_workers: int, cores: list[int]) -> Iterator[list[Child]]:
    """Workers that find each other by TF_CONFIG; a core each, in turn where there are fewer cores."""
    with contextlib.ExitStack() as stack:
        # All are open at the same time, so that the ports differ.
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(num_workers)]
        addresses = [f"127.0.0.1:{opened.getsockname()[1]}" for opened in sockets]
    with contextlib.ExitStack() as stack:
        children = []
        for rank in range(num_workers):
            config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
            child = Child(
                f"worker {rank} of {num_workers}",
                environment={"TF_CONFIG": json.dumps(config), "CUDA_VISIBLE_DEVICES": "-1"},
                core=cores[rank % len(cores)],
            )
            children.append(stack.enter_context(child))
        yield children
