"""What a search leaves: the best configuration, the comparison with the workload's own, the table and the picture."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from annlib.artifacts import write_atomically
from annlib.config import RunConfig
from annlib.errors import AnnlibError, StorageError, TrainingError
from annlib.evaluation import evaluate_run
from annlib.loading import open_run
from annlib.reporting.terminal import print_line
from annlib.reporting.trials import Trial, plot_trials, show_score, trials_table
from annlib.training.driver import output_to
from annlib.training.trial import TrialRecord
from annlib.tuning.definition import Search
from annlib.tuning.space import describe

RESULTS_FILE = "results.json"
NUM_SHOWN = 10
# What belongs to a trial, not to its configuration.
_PLACES = {"name", "storage"}
# What the reason of a trial holds whose loss or score is not finite.
_NOT_FINITE = re.compile(r" became -?(nan|inf)")


def best_of(records: Mapping[int, TrialRecord], search: Search) -> TrialRecord | None:
    """Returns the trial with the best score, of those that were trained to the end if there are any."""
    return next(iter(_ranked(records, search)), None)


def lost_trials(configs: Sequence[RunConfig], records: Mapping[int, TrialRecord]) -> list[int]:
    """Returns the numbers of the trials that have not come to an end."""
    return [number for number in range(len(configs)) if number not in records or not records[number].is_final]


def _ranked(records: Mapping[int, TrialRecord], search: Search) -> list[TrialRecord]:
    """Returns the trials that have a model and a score, the best first; of equal ones the earlier.

    Those that were stopped early come after all others, for their scores are those of fewer epochs.
    """
    sign = -1.0 if search.larger_is_better else 1.0
    scored = [
        (record.state != "finished", sign * record.score, record.number)
        for record in records.values()
        if record.score is not None and record.is_final
    ]
    return [records[number] for *_, number in sorted(scored)]


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
        StorageError: a file cannot be written.
    """
    best = best_of(records, search)
    if best is None:
        raise TrainingError(_no_result(records))
    trials = _show_trials(search, configs, records, directory, console)
    values = configs[best.number].model_dump(mode="json", exclude=_PLACES)
    _write(directory / "best.yaml", yaml.safe_dump(values, sort_keys=False))
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
    _write(directory / RESULTS_FILE, json.dumps(found, indent=2))
    own = records.get(0)
    own = own if own is not None and own.is_final else None
    _print_comparison(search, "validation", best, best.score, None if own is None else own.score, console)
    print_line(console, f"the best configuration, for jobs/train.py --config: {search.config.location}/best.yaml")
    found["test"] = _test_metrics(directory, configs, {0: own, best.number: best}, test, console)
    _write(directory / RESULTS_FILE, json.dumps(found, indent=2))
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
    lost = lost_trials(configs, records)
    if lost:
        print_line(
            console,
            f"{len(lost)} of {len(configs)} trials were lost with their process; the same command with --name "
            f"{search.config.name} tries them again",
        )
    return trials


def _no_result(records: Mapping[int, TrialRecord]) -> str:
    reason, advice = "none that ended.", "Start the same command again: it goes on."
    if records:
        first = records[min(records)]
        reason = f"of trial {first.number}: {first.reason.rstrip('.')}."
        if _NOT_FINITE.search(first.reason):
            advice = "Give a --space with smaller learning rates, or correct the data, and another --name."
        elif first.is_final:
            advice = "Correct what it tells, and give another --name."
        else:
            advice = "Correct what it tells, and start the same command again: it goes on."
    return (
        f"all {len(records)} trials failed: expected one at the least with a finite score, received {reason} {advice}"
    )


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: expected a writable directory with room, received {error.strerror or error}. "
            "Give it room, and start the same command again: it trains nothing anew."
        ) from None


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
    line = f"{split}: {search.config.monitor.removeprefix('val_')} {show_score(found)} (trial {best.number})"
    if best.number == 0:
        line += ": no trial is better than the workload's own configuration"
    elif before is not None:
        gain = found - before if search.larger_is_better else before - found
        change = f"{'better' if gain > 0 else 'worse'} by {show_score(abs(gain))}" if gain else "the same"
        line += f", the workload's own configuration {show_score(before)}: {change}"
    else:
        line += "; the workload's own configuration gave no result"
    print_line(console, line)
