"""What a search leaves: the best configuration, the comparison with the workload's own, the table and the picture."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from annlib.artifacts import write_atomically
from annlib.config import RunConfig
from annlib.errors import AnnlibError, TrainingError
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
    test = _known_tests(directory)
    found: dict[str, Any] = {
        "workload": search.workload.name,
        "metric": search.config.monitor,
        "larger_is_better": search.larger_is_better,
        "best": best.number,
        "test": test,
        "trials": [{**vars(records[trial.number]), "values": dict(trial.values)} for trial in trials],
    }
    # Before the models are evaluated, which may fail.
    write_atomically(directory / RESULTS_FILE, json.dumps(found, indent=2).encode())
    own = records.get(0)
    _print_comparison(search, "validation", best, best.score, None if own is None else own.score, console)
    print_line(console, f"the best configuration, for jobs/train.py --config: {search.config.location}/best.yaml")
    found["test"] = _test_metrics(directory, configs, {0: own, best.number: best}, test, console)
    write_atomically(directory / RESULTS_FILE, json.dumps(found, indent=2).encode())
    name = search.config.monitor.removeprefix("val_")
    on_test = {number: found["test"].get(str(number), {}).get(name) for number in (best.number, 0)}
    _print_comparison(search, "test", best, on_test[best.number], on_test[0], console)


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


def _known_tests(directory: Path) -> dict[str, dict[str, float]]:
    """Returns what an earlier start has found on the test split, by number of the trial."""
    try:
        known = json.loads((directory / RESULTS_FILE).read_text())["test"]
    except (OSError, ValueError, KeyError, TypeError):
        # A file that is damaged is written again.
        return {}
    return known if isinstance(known, dict) else {}


def _test_metrics(
    directory: Path,
    configs: Sequence[RunConfig],
    records: Mapping[int, TrialRecord | None],
    known: Mapping[str, dict[str, float]],
    console: Console,
) -> dict[str, dict[str, float]]:
    """Returns the metrics of these trials on the test split, by number; what an earlier start found is not done again.

    The search itself never looks at that split. A model that cannot be loaded again has none.
    """
    found = {}
    for number, record in records.items():
        key = str(number)
        if key in known:
            found[key] = known[key]
        elif record is not None and record.score is not None and record.is_final:
            try:
                with output_to(directory / "search.log"):
                    found[key] = evaluate_run(open_run(configs[number].location))["metrics"]
            except AnnlibError as error:
                print_line(console, f"test: not evaluated: {' '.join(str(error).split())}")
    return found


def _print_comparison(
    search: Search, split: str, best: TrialRecord, found: float | None, before: float | None, console: Console
) -> None:
    """Prints the metric of the best trial on a split, where it has one, beside that of the workload's own."""
    if found is None:
        return
    line = f"{split}: {search.config.monitor.removeprefix('val_')} {found:.4f} (trial {best.number})"
    if best.number == 0:
        line += ": no trial is better than the workload's own configuration"
    elif before is not None:
        gain = found - before if search.larger_is_better else before - found
        word = "better" if gain > 0 else "worse"
        line += f", the workload's own configuration {before:.4f}: {word} by {abs(gain):.4f}"
    else:
        line += "; the workload's own configuration gave no result"
    print_line(console, line)
