"""What a search leaves: the best configuration, the comparison with the workload's own, the table and the picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from annlib.artifacts import write_atomically
from annlib.config import RunConfig
from annlib.errors import TrainingError
from annlib.evaluation import evaluate_run
from annlib.loading import open_run
from annlib.reporting.terminal import print_line
from annlib.reporting.trials import Trial, plot_trials, trials_table
from annlib.training.driver import output_to
from annlib.training.trial import TrialRecord
from annlib.tuning.definition import Search
from annlib.tuning.space import describe

RESULTS_FILE = "results.json"
NUM_SHOWN = 10
# What belongs to a trial, not to its configuration.
_PLACES = {"name", "storage", "data_dir"}


def best_of(records: Mapping[int, TrialRecord], search: Search) -> TrialRecord | None:
    """Returns the trial with the best score, of those that were trained to the end if there are any."""
    ranked = _ranked(records, search)
    return next((record for record in ranked if record.state == "finished"), ranked[0] if ranked else None)


def _ranked(records: Mapping[int, TrialRecord], search: Search) -> list[TrialRecord]:
    """Returns the trials that have a model and a score, the best first; of equal ones the earlier."""
    sign = -1.0 if search.larger_is_better else 1.0
    scored = [
        (sign * record.score, record.number)
        for record in records.values()
        if record.score is not None and record.is_final
    ]
    return [records[number] for _, number in sorted(scored)]


def finish(
    search: Search,
    configs: Sequence[RunConfig],
    records: Mapping[int, TrialRecord],
    directory: Path,
    console: Console,
) -> None:
    """Writes and prints what the search found.

    Raises:
        TrainingError: no trial has a score.
    """
    best = best_of(records, search)
    if best is None:
        raise TrainingError(_no_result(records))
    trials = _show_trials(search, configs, records, directory, console)
    values = configs[best.number].model_dump(mode="json", exclude=_PLACES)
    write_atomically(directory / "best.yaml", yaml.safe_dump(values, sort_keys=False).encode())
    found: dict[str, Any] = {
        "workload": search.workload.name,
        "metric": search.config.monitor,
        "larger_is_better": search.larger_is_better,
        "best": best.number,
        "test": _test_metrics(directory, configs, [record for record in (records.get(0), best) if record is not None]),
        "trials": [{**vars(records[trial.number]), "values": dict(trial.values)} for trial in trials],
    }
    write_atomically(directory / RESULTS_FILE, json.dumps(found, indent=2).encode())
    _print_comparison(search, records, best, found["test"], console)
    print_line(console, f"the best configuration, for jobs/train.py --config: {search.config.location}/best.yaml")


def _show_trials(
    search: Search,
    configs: Sequence[RunConfig],
    records: Mapping[int, TrialRecord],
    directory: Path,
    console: Console,
) -> list[Trial]:
    """Prints the best trials, draws all, and returns them by number."""
    trials = [
        Trial(
            number=record.number,
            state=record.state,
            epochs=record.epochs,
            score=record.score,
            values=describe(configs[record.number], search.space),
        )
        for _, record in sorted(records.items())
    ]
    by_number = {trial.number: trial for trial in trials}
    shown = [by_number[record.number] for record in _ranked(records, search)][:NUM_SHOWN]
    console.print(trials_table(shown, search.config.monitor))
    plot_trials(
        trials,
        directory / "hyperparameters.png",
        metric=search.config.monitor,
        larger_is_better=search.larger_is_better,
        logarithmic=[name for name, distribution in search.space.items() if distribution.kind.startswith("log_")],
        title=f"{search.workload.name}: {len(trials)} trials of {search.config.name}",
    )
    lost = [number for number, record in records.items() if not record.is_final]
    if lost:
        print_line(
            console,
            f"{len(lost)} trials were lost with their process; the same command with --name {search.config.name} tries "
            "them again",
        )
    return trials


def _no_result(records: Mapping[int, TrialRecord]) -> str:
    reason = "none that ended"
    if records:
        first = records[min(records)]
        reason = f"of trial {first.number}: {first.reason}"
    return (
        f"all {len(records)} trials failed: expected one at the least with a finite loss, received {reason} "
        "Give a --space with smaller learning rates, or correct the data, and another --name."
    )


def _test_metrics(
    directory: Path, configs: Sequence[RunConfig], records: Sequence[TrialRecord]
) -> dict[str, dict[str, float]]:
    """Returns the metrics of these trials on the test split, by number; what an earlier start found is not done again.

    The search itself never looks at that split.
    """
    known: dict[str, dict[str, float]] = {}
    if (directory / RESULTS_FILE).exists():
        known = json.loads((directory / RESULTS_FILE).read_text())["test"]
    found = {}
    for record in records:
        number = str(record.number)
        if number not in known and record.score is not None and record.is_final:
            with output_to(directory / "search.log"):
                known[number] = evaluate_run(open_run(configs[record.number].location))["metrics"]
        if number in known:
            found[number] = known[number]
    return found


def _print_comparison(
    search: Search,
    records: Mapping[int, TrialRecord],
    best: TrialRecord,
    test: Mapping[str, Mapping[str, float]],
    console: Console,
) -> None:
    name = search.config.monitor.removeprefix("val_")
    own = records.get(0)
    on_test = [test.get(str(number), {}).get(name) for number in (best.number, 0)]
    for split, found, before in (
        ("validation", best.score, None if own is None else own.score),
        ("test", on_test[0], on_test[1]),
    ):
        if found is None:
            continue
        line = f"{split}: {name} {found:.4f} (trial {best.number})"
        if best.number == 0:
            line += ": no trial is better than the workload's own configuration"
        elif before is not None:
            gain = found - before if search.larger_is_better else before - found
            word = "better" if gain > 0 else "worse"
            line += f", the workload's own configuration {before:.4f}: {word} by {abs(gain):.4f}"
        else:
            line += "; the workload's own configuration gave no result"
        print_line(console, line)
