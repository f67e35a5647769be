"""The page that shows a run to a person: `report.html`, one file that needs nothing beside it."""

import datetime
import json
import math
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from annlib.artifacts import RunDirectory, write_atomically
from annlib.config import RunConfig, join_values, load_config
from annlib.errors import StorageError
from annlib.reporting.page import element, figure, figures, page, section, table
from annlib.reporting.scaling import read_scaled
from annlib.reporting.wording import CAPTIONS, as_float, caption_of, cell_text, duration_text, number_text, words_of

SPLITS = ("train", "validation", "test")
# Pictures of at most 400,000 bytes keep a page of ten of them at 5 MB.
PICTURE_BYTES = 400_000
# Longer histories are thinned out to about this many rows.
HISTORY_ROWS = 50
HISTORY_ENDS = 5

_DIAGRAM = "model.png"


def write_report(run: RunDirectory, *, workload_description: str, config_class: type[RunConfig] = RunConfig) -> Path:
    """Writes `report.html` from the other files of a finished run.

    Pictures and the model's summary are left out where the run has none.

    Args:
        run: the run directory, with `config.yaml`, `metrics.json` and `history.csv`.
        workload_description: the workload's line in `--list`.
        config_class: the workload's kind of configuration.

    Returns:
        The path of the page.

    Raises:
        StorageError: one of the three files is missing or cannot be read, or a picture is damaged.
        ConfigError: the configuration is not valid.
    """
    metrics, rows, config = _read(run, config_class)
    title = f"{config.workload}: {config.name}"
    parts = [
        element("header", element("h1", config.workload), element("p", workload_description), _run_line(config)),
        element("main", *_main(run, metrics, rows, config)),
        element("footer", f"Written by annlib on {_now()}, on {platform.platform()}."),
    ]
    write_atomically(run.report, page(title, *parts))
    return run.report


def reproducing_command(config: RunConfig) -> str:
    """Returns the command line that repeats a run under a new name, quoted for a POSIX shell.

    It gives every value, so that defaults that change do not change what it does.
    """
    return " ".join(_reproducing_words(config))


def _reproducing_words(config: RunConfig) -> list[str]:
    """Returns the parts of the command line, a flag and its value together."""
    words = [shlex.join(["python", "jobs/train.py", config.workload])]
    for name, value in config.model_dump(mode="json").items():
        flag = "--" + name.replace("_", "-")
        if name in ("workload", "storage", "name") or value is None or value is False:
            continue
        if isinstance(value, list):
            value = join_values(value)
        if value is True:
            words.append(flag)
        elif str(value).startswith("-"):
            words.append(shlex.quote(f"{flag}={value}"))
        else:
            words.append(shlex.join([flag, str(value)]))
    return words


def _read(run: RunDirectory, config_class: type[RunConfig]) -> tuple[dict[str, Any], list[dict[str, str]], RunConfig]:
    for path in (run.config, run.metrics, run.history):
        if not path.is_file():
            raise StorageError(
                f"there is nothing to report on: expected the file {path} of a finished run, received none. Train "
                f"with --storage {run.path.parent} --name {run.path.name}, or correct the path."
            )
    metrics, rows = run.read_metrics() or {}, run.read_history()
    found = [metrics[split] for split in SPLITS if split in metrics]
    if not found or not all(isinstance(values, dict) for values in found):
        raise StorageError(
            f"{run.metrics} has no metrics: expected those of {', '.join(SPLITS)}, received "
            f"{json.dumps(metrics)[:80]}. Remove it to finish the run again."
        )
    if not rows or not all((row.get("epoch") or "").isdecimal() for row in rows):
        raise StorageError(
            f"{run.history} has no epochs: expected a row an epoch with its number in the column epoch, received "
            f"{len(rows)} rows. Train the run again."
        )
    config = load_config({}, defaults={}, config_file=run.config, environment={}, config_class=config_class)
    return metrics, rows, config


def _main(
    run: RunDirectory, metrics: Mapping[str, Any], rows: Sequence[Mapping[str, str]], config: RunConfig
) -> list[Element]:
    best = _best_row(rows, config)
    found = {path.name: path for path in sorted(run.pictures.glob("*.png"))}
    diagram = found.pop(_DIAGRAM, None)
    order = [name for name in CAPTIONS if name in found] + [name for name in found if name not in CAPTIONS]
    parts = [_figures(metrics, rows, config, best), section("Metrics", _metrics_table(metrics))]
    if metrics.get("notes"):
        parts.append(section("Data", element("ul", *(element("li", str(note)) for note in metrics["notes"]))))
    if run.learning_curves.is_file():
        caption, description = "Training solid, validation dashed.", "Curves of the metrics over the epochs."
        parts.append(section("Learning curves", _figure(run.learning_curves, caption, description)))
    if order:
        parts.append(section("Pictures", *(_figure(found[name], *caption_of(name)) for name in order)))
    parts.append(section("History", _history(rows, config, best)))
    parts += _model(run, diagram)
    parts.append(section("Configuration", _configuration(config)))
    parts.append(section("Environment", _environment(metrics)))
    parts.append(section("Reproduce it", *_reproduction(config)))
    return parts


def _run_line(config: RunConfig) -> Element:
    return element("p", "Run ", element("strong", config.name), class_="soft")


def _figures(
    metrics: Mapping[str, Any], rows: Sequence[Mapping[str, str]], config: RunConfig, best: int | None
) -> Element:
    # The last split is the one that was looked at last.
    split = [split for split in SPLITS if split in metrics][-1]
    cells = [(f"{split} {words_of(name)}", number_text(value), "") for name, value in metrics[split].items()]
    num_main = len(cells)
    last = int(rows[-1]["epoch"])
    cells.append(("epochs", f"{last:,}", f"of {config.epochs:,}" if last != config.epochs else ""))
    if best is not None:
        criterion = _criterion(rows, config)
        value = f"{words_of(criterion)} {number_text(rows[best][criterion])}"
        cells.append(("best epoch", f"{int(rows[best]['epoch']):,}", value))
    if "seconds" in metrics:
        cells.append(("training time", duration_text(float(metrics["seconds"])), ""))
    if "samples_per_s" in metrics:
        cells.append(("samples per second", f"{float(metrics['samples_per_s']):,.0f}", ""))
    note = "" if config.uses_ray else "one process, without Ray"
    fewest, most = config.num_workers
    cells.append(("Ray workers", str(most) if fewest == most else f"{fewest} to {most}", note))
    return figures(cells, num_main=num_main)


def _metrics_table(metrics: Mapping[str, Any]) -> Element:
    splits = [split for split in SPLITS if split in metrics]
    names = list(dict.fromkeys(name for split in splits for name in metrics[split]))
    rows = [[split, *(number_text(metrics[split].get(name, "")) for name in names)] for split in splits]
    return table(["split", *map(words_of, names)], rows, name="Final metrics", numbers=True)


def _history(rows: Sequence[Mapping[str, str]], config: RunConfig, best: int | None) -> Element:
    columns = ["epoch", *(name for name in rows[0] if name != "epoch")]
    shown = list(range(len(rows)))
    if len(rows) > HISTORY_ROWS:
        middle = range(0, len(rows), math.ceil(len(rows) / (HISTORY_ROWS - 2 * HISTORY_ENDS)))
        ends = [*shown[:HISTORY_ENDS], *shown[-HISTORY_ENDS:]]
        shown = sorted({*middle, *ends, *([] if best is None else [best])})
    cells = [[cell_text(name, rows[index][name]) for name in columns] for index in shown]
    extreme = "highest" if config.resolved_monitor_mode == "max" else "lowest"
    caption = "" if best is None else f"The best epoch is marked: the {extreme} {words_of(_criterion(rows, config))}."
    made = table(
        [words_of(name) for name in columns],
        cells,
        name="History",
        numbers=True,
        caption=caption,
        best=shown.index(best) if best is not None else None,
    )
    if len(shown) == len(rows):
        return made
    line = f"{len(shown)} of {len(rows):,} epochs; history.csv has all of them"
    return element("details", element("summary", line), made)


def _model(run: RunDirectory, diagram: Path | None) -> list[Element]:
    parts = []
    if run.model_summary.is_file():
        text = run.model_summary.read_text(encoding="utf-8", errors="replace").rstrip()
        parts.append(element("pre", text, tabindex="0", role="region", aria_label="Model summary"))
    if diagram is not None:
        parts.append(_figure(diagram, "The layers of the model.", "Diagram of the layers of the model."))
    return [section("Model", *parts)] if parts else []


def _reproduction(config: RunConfig) -> list[Element]:
    # Each part stays together on its line: browsers break lines at hyphens too.
    parts = [part for word in _reproducing_words(config) for part in (element("span", word), " ")]
    note = "In the root directory of the repository. The new run gets the time as its name."
    return [element("pre", element("code", *parts), class_="command"), element("p", note, class_="soft")]


def _configuration(config: RunConfig) -> Element:
    rows = []
    for name, value in config.model_dump(mode="json").items():
        shown = "none" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
        rows.append([name, shown, type(config).model_fields[name].description or ""])
    return table(["setting", "value", "meaning"], rows, name="Configuration", numbers=False)


def _environment(metrics: Mapping[str, Any]) -> Element:
    rows = [[str(name), str(version)] for name, version in dict(metrics.get("versions") or {}).items()]
    if "platform" in metrics:
        rows.append(["platform", str(metrics["platform"])])
    return table(["software", "version"], rows, name="Environment", numbers=False)


def _figure(path: Path, caption: str, description: str) -> Element:
    picture = read_scaled(path, max_bytes=PICTURE_BYTES)
    return figure(picture, caption=caption, description=description)


def _criterion(rows: Sequence[Mapping[str, str]], config: RunConfig) -> str:
    return config.monitor if config.monitor in rows[0] else "loss"


def _best_row(rows: Sequence[Mapping[str, str]], config: RunConfig) -> int | None:
    """Returns the index of the row of the best monitored value; None where no value is a finite number."""
    sign = -1 if config.resolved_monitor_mode == "max" else 1
    values = [sign * as_float(row.get(_criterion(rows, config), "")) for row in rows]
    finite = [index for index, value in enumerate(values) if math.isfinite(value)]
    return min(finite, key=lambda index: values[index], default=None)


def _now() -> str:
    return datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
