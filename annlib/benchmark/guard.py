"""Compares annlib's ratios to `keras.Model.fit` with recorded ones: what `make bench` runs.

Ratios of one run, because seconds depend on the machine and on what else it does.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from annlib.artifacts import check_can_be_written, write_atomically
from annlib.benchmark import timing
from annlib.benchmark.cases import CASES
from annlib.benchmark.run import names_with_data
from annlib.errors import ConfigError

SIDES = ("keras", "annlib", "annlib-all")
# Of figures that are recorded for the first time: the largest relative change that is noise.
TOLERANCES = {"speed": 0.25, "speed, all included": 0.25, "memory": 0.1}
Ratios = dict[str, float]


def guard(
    names: Sequence[str] | None,
    recorded_path: Path,
    *,
    rounds: int,
    data_dir: Path | None,
    record: bool,
    console: Console,
) -> int:
    """Measures the ratios, and compares them with those of a file or writes them there.

    A case that looks worse is measured again, with twice the rounds, before it counts.

    Args:
        names: cases; None is all whose data can be found.
        recorded_path: JSON file of {"tolerances": {figure: share}, "ratios": {case: {figure: ratio}}}.
        rounds: measurements of each side, 1 or more.
        data_dir: directory with the raw data files.
        record: True writes the file instead; cases that are not measured stay in it.
        console: where the table goes.

    Returns:
        0, or 1 where a ratio is worse than its tolerance allows.

    Raises:
        ConfigError: the file cannot be read.
        DataError: the data of a named case cannot be found.
        StorageError: the file cannot be written.
        TrainingError: a process failed.
    """
    recorded = _read(recorded_path, may_be_missing=record)
    if record:
        check_can_be_written(recorded_path)
    found = names_with_data(names or list(CASES), data_dir, console, are_named=names is not None)
    measured = {name: _measure(name, rounds, data_dir) for name in found}
    if record:
        recorded["ratios"] |= {name: {f: round(r, 3) for f, r in ratios.items()} for name, ratios in measured.items()}
        write_atomically(recorded_path, (json.dumps(recorded, indent=2) + "\n").encode())
        console.print(_table(recorded, measured))
        return 0
    for name in measured:
        if _worse(recorded, {name: measured[name]}):
            console.print(f"{name} looks worse: measured again", highlight=False)
            measured[name] = _measure(name, 2 * rounds, data_dir)
    console.print(_table(recorded, measured))
    worse = _worse(recorded, measured)
    console.print("\n".join(worse) if worse else "nothing is worse", highlight=False)
    return 1 if worse else 0


def _measure(name: str, rounds: int, data_dir: Path | None) -> Ratios:
    case = timing.measure(name, SIDES, rounds=rounds, data_dir=data_dir)
    keras, annlib = case.sides["keras"], case.sides["annlib"]
    return {
        "speed": case.speed("annlib"),
        "speed, all included": case.speed("annlib-all"),
        "memory": keras.peak_memory_bytes / annlib.peak_memory_bytes,
    }


def _read(path: Path, *, may_be_missing: bool) -> dict[str, dict[str, Any]]:
    if may_be_missing and not path.exists():
        return {"tolerances": TOLERANCES, "ratios": {}}
    try:
        recorded: dict[str, dict[str, Any]] = json.loads(path.read_text())
        if not all(isinstance(recorded[key], dict) for key in ("tolerances", "ratios")):
            raise TypeError("no table of tolerances, or of ratios")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read: expected the JSON file that --record writes, received "
            f"{type(error).__name__}: {error}. Give another --compare, or record the figures again."
        ) from None
    return recorded


def _change(recorded: dict[str, dict[str, Any]], name: str, figure: str, ratio: float) -> float | None:
    """Returns how much a ratio moved from the recorded one, relative; None where there is none."""
    before = recorded["ratios"].get(name, {}).get(figure)
    return None if before is None else ratio / before - 1


def _worse(recorded: dict[str, dict[str, Any]], measured: dict[str, Ratios]) -> list[str]:
    """Returns a line for each ratio that is worse than its tolerance allows. Larger is better in all of them."""
    lines = []
    for name, ratios in measured.items():
        for figure, ratio in ratios.items():
            change, tolerance = _change(recorded, name, figure, ratio), recorded["tolerances"][figure]
            if change is not None and change < -tolerance:
                before = recorded["ratios"][name][figure]
                lines.append(
                    f"worse: {name}, {figure}: {ratio:.3g} times keras.Model.fit, recorded {before:.3g}, "
                    f"{change:+.0%}, tolerance {tolerance:.0%}"
                )
    return lines


def _table(recorded: dict[str, dict[str, Any]], measured: dict[str, Ratios]) -> Table:
    table = Table("case", "annlib against keras.Model.fit", "ratio", "recorded", "change", "")
    for name, ratios in measured.items():
        for figure, ratio in ratios.items():
            change, tolerance = _change(recorded, name, figure, ratio), recorded["tolerances"][figure]
            before = recorded["ratios"].get(name, {}).get(figure)
            moved = "" if change is None or abs(change) <= tolerance else ("better" if change > 0 else "worse")
            shown = ("", "") if change is None else (f"{before:.3g}", f"{change:+.0%}")
            table.add_row(name, figure, f"{ratio:.3g}", *shown, moved)
    return table
