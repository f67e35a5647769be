"""One run of the benchmark: what is measured, and where the figures go."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from annlib.artifacts import check_can_be_written, write_atomically
from annlib.benchmark import scaling, timing
from annlib.benchmark.cases import CASES
from annlib.benchmark.groups import measure_scaling
from annlib.benchmark.plots import plot
from annlib.benchmark.sides import SIDES
from annlib.benchmark.streaming import measure as measure_streaming
from annlib.benchmark.streaming import streaming_table
from annlib.benchmark.tables import case_notes, case_table, projection_table, scaling_notes, scaling_table
from annlib.errors import DataError

SCALING = "scaling"
STREAMING = "streaming"


def run(
    names: Sequence[str] | None,
    *,
    rounds: int,
    data_dir: Path | None,
    json_path: Path | None,
    plot_path: Path | None,
    console: Console,
) -> None:
    """Measures, prints tables, and writes the figures and the plot.

    Args:
        names: cases, "scaling" or "streaming"; None is all of them whose data can be found.
        rounds: measurements of each figure, 1 or more.
        data_dir: directory with the raw data files.
        json_path: file for the figures; None writes none.
        plot_path: PNG file; None draws none.
        console: where the tables go.

    Raises:
        DataError: the data of a named case cannot be found.
        StorageError: a file cannot be written.
        TrainingError: a process failed.
    """
    for path in (json_path, plot_path):
        if path is not None:
            check_can_be_written(path)
    found = names_with_data(names or [*CASES, SCALING, STREAMING], data_dir, console, are_named=names is not None)
    timings = {}
    for name in (name for name in found if name in CASES):
        with console.status(f"timing {name}"):
            timings[name] = timing.measure(name, list(SIDES), rounds=rounds, data_dir=data_dir)
    measured = None
    if SCALING in found:
        with console.status("timing several workers"):
            measured = measure_scaling(rounds=rounds, data_dir=data_dir)
    streamed = None
    if STREAMING in found:
        with console.status("timing samples on disk"):
            streamed = measure_streaming(rounds=rounds)
    if timings:
        console.print(case_table(timings))
        console.print("\n".join(case_notes(timings)), highlight=False)
    if measured is not None:
        console.print(scaling_table(measured), projection_table(measured))
        console.print("\n".join(scaling_notes(measured)), highlight=False)
    if streamed is not None:
        console.print(streaming_table(streamed))
    if json_path is not None:
        figures: dict[str, Any] = {name: dataclasses.asdict(case) for name, case in timings.items()}
        if measured is not None:
            figures[SCALING] = scaling.figures(measured)
        if streamed is not None:
            figures[STREAMING] = {
                num_rows: {side: dataclasses.asdict(found) for side, found in sides.items()}
                for num_rows, sides in streamed.items()
            }
        write_atomically(json_path, json.dumps(figures, indent=2).encode())
    if plot_path is not None:
        plot(timings, measured, plot_path)


def names_with_data(names: Sequence[str], data_dir: Path | None, console: Console, *, are_named: bool) -> list[str]:
    """Returns the names whose data can be found; says which cannot, or raises DataError where the user named it."""
    found = []
    for name in names:
        if name == STREAMING:
            found.append(name)
            continue
        try:
            # The memory of several workers is measured on Fashion-MNIST.
            CASES["fashion-mnist" if name == SCALING else name].load(data_dir)
        except DataError as error:
            if are_named:
                raise
            console.print(f"{name} is left out: {error}", highlight=False)
        else:
            found.append(name)
    return found
