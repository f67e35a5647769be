"""Pictures of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Columns of the history that are not metrics.
_NOT_METRICS = {"epoch", "learning_rate", "seconds", "samples_per_s"}


def plot_learning_curves(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Draws the metrics of each epoch, training solid and validation dashed, and writes a PNG of 300 dpi.

    Args:
        rows: the rows of the history, at least one; column `epoch` counts from 1.
        path: PNG file to write.
        title: what stands above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # Okabe and Ito's colours, which colour-blind people tell apart.
    colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"]
    metrics = [name for name in rows[-1] if name not in _NOT_METRICS and not name.startswith("val_")]
    epochs = [int(row["epoch"]) for row in rows]
    largest = 0.0
    for index, metric in enumerate(metrics):
        for name, style in ((metric, "-"), (f"val_{metric}", "--")):
            if name not in rows[-1]:
                continue
            values = [float(row[name]) for row in rows]
            largest = max(largest, *values)
            marker = "o" if len(rows) == 1 else ""
            axes.plot(epochs, values, style, marker=marker, color=colours[index % len(colours)], label=name)
    if largest <= 1.0:
        # As in the book: all curves between 0 and 1.
        axes.set_ylim(0, 1)
    else:
        axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", title=title)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=300)
