"""One search from its configuration to its last file: what `jobs/tune.py` calls.

`<storage>/<name>/` holds `search.yaml` (what is searched), a run directory for each trial, and in the end
`results.json`, `best.yaml` and `hyperparameters.png`.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from annlib.artifacts import RunDirectory, write_atomically
from annlib.config import RunConfig
from annlib.data import Dataset
from annlib.errors import ConfigError, StorageError
from annlib.loading import import_keras
from annlib.reporting.terminal import print_line
from annlib.reporting.trials import show_score, summarize
from annlib.training.driver import EXIT_SIGNAL, collect_signals, log_to, output_to
from annlib.training.run_storage import errors_of_storage, open_run_storage
from annlib.training.trial import TrialRecord
from annlib.tuning import results
from annlib.tuning.definition import REDUCTION_FACTOR, Search, check_metric
from annlib.tuning.space import configure, describe, draw

# What `search.yaml` holds beside the identity, which is known before the data is read.
_FINGERPRINT = "data_fingerprint"


def tune(search: Search, *, console: Console) -> int:
    """Does what is left of a search, and shows what it found.

    Args:
        search: what to search.
        console: where progress and results are printed; the last line is the directory of the search. Its file is
            given, for what others print to `sys.stdout` meanwhile goes to the log.

    Returns:
        The exit code: 0; 1 where trials were lost with their process; 130 after Ctrl-C, 143 after SIGTERM and 129 after
        SIGHUP, when checkpoints were left.

    Raises:
        AnnlibError: the name is taken or the cluster too small, before anything was written; or no trial gave a result.
    """
    config = search.config
    # The trials keep their directories themselves, where they run.
    with errors_of_storage(config), open_run_storage(config, leave_out=("trial-",)) as storage:
        directory = storage.run.path
        _check_directory(directory, search)
        data = search.workload.load(config)
        for note in data.notes:
            print_line(console, note)
        fingerprint = data.fingerprint
        _check_data(directory, fingerprint)
        _check_metric(search, data)
        del data
        configs = _configs(search, console)
        with contextlib.ExitStack() as stack:
            records, received = _run(search, configs, directory, fingerprint, console, stack)
            if received:
                return _interrupted(search, configs, records, received, console)
        results.finish(search, configs, records, directory, console)
        print_line(console, config.location)
    return 1 if results.lost_trials(configs, records) else 0


def _check_directory(directory: Path, search: Search) -> None:
    """Raises ConfigError where the name is that of something else than this search."""
    path, name = RunDirectory(directory).search, search.config.name
    if not path.exists():
        if RunDirectory(directory).config.exists():
            raise ConfigError(
                f"{name} is a run, no search: expected a new name or that of a search, received one that "
                "jobs/train.py made. Give another --name."
            )
        return
    found = _read_search(path)
    for key, value in search.identity().items():
        if found.get(key) != value:
            raise ConfigError(
                f"the search {name} was started with {key}={found.get(key)}: expected the same, received {value}. "
                "Use the earlier value to go on, or give another --name to start anew."
            )


def _check_data(directory: Path, fingerprint: str) -> None:
    """Raises ConfigError where the trials of an earlier start had other data; older files do not tell."""
    path = RunDirectory(directory).search
    if path.exists() and _read_search(path).get(_FINGERPRINT, fingerprint) != fingerprint:
        raise ConfigError(
            f"{path} was made with other data: expected the same rows in the same order, received some that changed "
            "since. Restore the data to go on, or give another --name to start anew."
        )


def _read_search(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
        assert isinstance(found, dict)
    except (OSError, AssertionError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path} cannot be read: expected what a search has in it, received {type(error).__name__}. Restore it, or "
            "give another --name."
        ) from None
    return found


def _check_metric(search: Search, data: Dataset) -> None:
    """Raises ConfigError where the model has no such metric, which the model alone tells where it is the user's own."""
    workload = search.workload
    # A table decides which of the metrics there are.
    if workload.metrics and workload.config_class is RunConfig:
        return
    import_keras()
    from annlib.training.engine import metric_names

    model = workload.build(data, search.config)
    signature = workload.signature(data, model)
    check_metric(search.config.monitor, metric_names(model, signature.model_inputs(data.train.x), data.train.y))


def _configs(search: Search, console: Console) -> list[RunConfig]:
    """Returns the configuration of each trial; the first one is the search's own."""
    points = draw(search.space, search.config, search.num_trials - 1)
    if len(points) < search.num_trials - 1:
        print_line(console, f"the space holds {len(points)} other configurations: {len(points) + 1} trials")
    return [
        configure(search.config, point, name=f"trial-{number:03d}", storage=search.config.location)
        for number, point in enumerate([{}, *points])
    ]


def _run(
    search: Search,
    configs: list[RunConfig],
    directory: Path,
    fingerprint: str,
    console: Console,
    stack: contextlib.ExitStack,
) -> tuple[dict[int, TrialRecord], list[int]]:
    """Runs the trials; returns their records by number, and the signals that came."""
    with output_to(Path(os.devnull)):
        from annlib.training import distributed
        from annlib.training.distributed.search import Plan
        from annlib.training.distributed.search import search as run_trials

        workers = search.concurrency or 1
        room = search.config.model_copy(update={"num_workers": (workers, workers)})
        stack.enter_context(distributed.cluster(room, flag="--concurrency"))
    _write_search(directory, search, fingerprint)
    stack.enter_context(RunDirectory(directory).claim(search.config.location))
    stack.enter_context(output_to(directory / "search.log"))
    stack.enter_context(log_to(directory / "search.log"))
    better = "larger" if search.larger_is_better else "smaller"
    print_line(
        console,
        f"{len(configs)} trials of up to {search.config.epochs} epochs; {search.config.monitor}, {better} is better",
    )
    records: dict[int, TrialRecord] = {}

    def show(record: TrialRecord) -> None:
        if record.state == "interrupted":
            return
        records[record.number] = record
        print_line(console, _line(record, configs, search, len(records)))

    plan = Plan(
        configs=configs,
        hparams=[describe(config, search.space) for config in configs],
        rungs=search.rungs,
        reduction_factor=REDUCTION_FACTOR,
        larger_is_better=search.larger_is_better,
        concurrency=search.concurrency,
        trials_per_process=search.trials_per_process,
    )
    signals = stack.enter_context(collect_signals(console))
    signals.phase = "training"
    run_trials(plan, search.workload, on_record=show, stop_requested=lambda: bool(signals.received))
    return records, signals.received


def _write_search(directory: Path, search: Search, fingerprint: str) -> None:
    values = {**search.identity(), _FINGERPRINT: fingerprint}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(RunDirectory(directory).search, yaml.safe_dump(values, sort_keys=False).encode())
    except OSError as error:
        raise StorageError(
            f"the directory {directory} cannot be written: expected a writable directory, received "
            f"{error.strerror or error}. Give another --storage, or its permissions or space."
        ) from None


def _line(record: TrialRecord, configs: list[RunConfig], search: Search, count: int) -> str:
    what = summarize(describe(configs[record.number], search.space))
    if record.number == 0:
        what = f"the workload's own: {what}"
    score = show_score(record.score) if record.score is not None and record.is_final else record.reason
    epochs = f"{record.epochs} epoch{'' if record.epochs == 1 else 's'}"
    return f"[{count}/{len(configs)}] trial {record.number} {record.state} after {epochs}  {score}  {what}"


def _interrupted(
    search: Search,
    configs: list[RunConfig],
    records: Mapping[int, TrialRecord],
    received: list[int],
    console: Console,
) -> int:
    best = results.best_of(records, search)
    if best is not None:
        print_line(console, f"best so far: {_line(best, configs, search, len(records))}")
    done = sum(record.is_final for record in records.values())
    print_line(
        console,
        f"interrupted with {done} of {len(configs)} trials done; the same command with --name {search.config.name} "
        "goes on",
    )
    print_line(console, search.config.location)
    return EXIT_SIGNAL + received[0]
