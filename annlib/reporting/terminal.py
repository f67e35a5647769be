"""What the terminal shows while a run trains: a progress bar where someone watches, plain lines elsewhere."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from annlib.reporting.wording import number_text

# Plain lines come at most this often, in seconds: epochs may take milliseconds.
LINE_EVERY_S = 0.5


class RunDisplay:
    """Shows the epochs of a run.

    Args:
        console: where to print.
        epochs: number of the last epoch.
        metrics: the metrics of which the first that is in the history is shown beside the loss; without any, the
            first that the history has.
    """

    def __init__(self, console: Console, *, epochs: int, metrics: Sequence[str]) -> None:
        self._console = console
        self._epochs = epochs
        self._metrics = metrics
        self._last_line = 0.0
        # The newest line that was not printed, for it may be the last of all.
        self._unseen = ""
        self._progress: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[line]}", markup=False))
            self._progress = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._progress.add_task("epoch 0", total=epochs, line="starting")

    def __enter__(self) -> "RunDisplay":
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._unseen:
            self._print(self._unseen)
        if self._progress is not None:
            self._progress.stop()

    def show(self, row: Mapping[str, Any]) -> None:
        """Shows one row of the history."""
        epoch = int(row["epoch"])
        parts = [f"loss {number_text(float(row['loss']))}"]
        # Of a model of the user's own, whose metrics nobody named, those that its history has.
        names = [f"val_{name}" for name in self._metrics] + [name for name in row if name.startswith("val_")]
        shown = [name for name in names if name in row and name != "val_loss"]
        for name in ("val_loss", *shown[:1]):
            if name in row:
                parts.append(f"{name} {number_text(float(row[name]))}")
        parts.append(f"{float(row['samples_per_s']):,.0f} samples/s")
        line = "  ".join(parts)
        if self._progress is not None:
            description = f"epoch {epoch}/{self._epochs}"
            self._progress.update(self._task, completed=epoch, description=description, line=line)
            return
        self._unseen = f"epoch {epoch}/{self._epochs}  {line}"
        if time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._print(self._unseen)

    def _print(self, line: str) -> None:
        self._last_line = time.monotonic()
        self._unseen = ""
        print_line(self._console, line)


def print_line(console: Console, line: str) -> None:
    """Prints a line that holds paths, names or messages of others as it is, on one line however long."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> Table:
    """Returns the final metrics as a table, a row a split."""
    names = list(next(iter(metrics.values())))
    table = Table("split", *map(escape, names))
    for split, values in metrics.items():
        table.add_row(split, *(number_text(float(values[name])) for name in names))
    return table
