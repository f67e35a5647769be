"""Learning curves."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annlib.errors import DataError
from annlib.reporting.style import COLOURS, new_figure, save
from annlib.reporting.text import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Values = npt.NDArray[np.float64]

# Columns of the history that are not metrics.
_NOT_METRICS = {"epoch", "learning_rate", "seconds", "samples_per_s"}
# Metrics share a panel while the largest values of any two differ by this factor at most.
_LARGEST_RATIO = 2.0
# A metric within 0..1 whose values are all smaller than this would be a flat line in a panel from 0 to 1.
_SMALLEST_IN_UNIT_PANEL = 0.05
# Where the largest value is so many times the usual one, a linear axis would show the others as a flat line.
_LOG_RATIO = 100.0
# More epochs than this get thinner lines.
_MANY_EPOCHS = 200


def plot_learning_curves(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str) -> None:
    """Writes the picture of `draw_learning_curves`, a PNG of 300 dpi.

    Raises:
        DataError: as of `draw_learning_curves`.
        StorageError: `path` cannot be written.
    """
    save(draw_learning_curves(rows, title=title), path)


def draw_learning_curves(rows: Sequence[Mapping[str, Any]], *, title: str) -> "Figure":
    """Draws the metrics of each epoch, training solid and validation dashed, as in the book's figure 10-12.

    Metrics within 0..1 share a panel from 0 to 1; metrics of very different sizes have panels of their own. The
    learning rate has one if it changes.

    Args:
        rows: the rows of the history, at least one; numbers, or the text of them. Column `epoch` counts from 1. What is
            empty or not finite becomes a gap.
        title: what stands above.

    Raises:
        DataError: there is no row, no column `epoch`, no metric, or a value is not a number.
    """
    from matplotlib.ticker import MaxNLocator

    epochs, columns = _read(rows)
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in columns if name not in _NOT_METRICS))
    if not metrics:
        raise DataError(
            f"the history has no metric; expected a column such as loss; received {', '.join(rows[0])}; record one"
        )
    curves = {
        metric: {name: columns[name] for name in (metric, f"val_{metric}") if name in columns} for metric in metrics
    }
    panels = _panels(curves)
    rates = columns.get("learning_rate", np.empty(0))
    has_rates = len(np.unique(rates[np.isfinite(rates)])) > 1
    heights = [4.6 if len(panels) == 1 else 3.0] * len(panels) + [1.4] * has_rates
    figure = new_figure(9, sum(heights) + 0.5, title=title)
    all_axes = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(all_axes, panels, strict=False):
        _draw_panel(axes, epochs, [curves[metric] for metric in panel])
    if has_rates:
        _draw_line(all_axes[-1], epochs, rates, color="#555555")
        _set_scale(all_axes[-1], rates, usual=np.min)
        all_axes[-1].set_ylabel("learning rate")
    all_axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    all_axes[-1].set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    all_axes[-1].set_xlabel("epoch")
    return figure


def _read(rows: Sequence[Mapping[str, Any]]) -> tuple[Values, dict[str, Values]]:
    """Returns the epochs and the other columns of all rows; NaN where a value is missing."""
    if not rows:
        raise DataError("the history is empty; expected at least 1 epoch; received none; train first")
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: np.array([_number(name, row.get(name)) for row in rows]) for name in names}
    epochs = columns.pop("epoch", None)
    if epochs is None or not np.isfinite(epochs).all():
        raise DataError(
            f"the history has no epochs; expected a column epoch; received {', '.join(names)}; number the rows"
        )
    return epochs, columns


def _number(name: str, value: Any) -> float:
    if value is None or value == "":
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"the history's column {name!r} is not numeric; expected numbers; received {value!r}; remove the column"
        ) from None


def _panels(curves: Mapping[str, Mapping[str, Values]]) -> list[list[str]]:
    """Distributes the metrics so that none is squeezed flat by another one, and none lacks a colour."""
    panels: list[list[str]] = []
    sizes: list[list[float]] = []
    for metric, lines in curves.items():
        size = _size(np.concatenate(list(lines.values())))
        for panel, others in zip(panels, sizes, strict=True):
            if len(panel) < len(COLOURS) and max(*others, size) <= _LARGEST_RATIO * min(*others, size):
                panel.append(metric)
                others.append(size)
                break
        else:
            panels.append([metric])
            sizes.append([size])
    return panels


def _size(values: Values) -> float:
    if _fits_unit_panel(values):
        return 1.0
    values = values[np.isfinite(values)]
    return float(np.abs(values).max()) if len(values) else 1.0


def _fits_unit_panel(values: Values) -> bool:
    values = values[np.isfinite(values)]
    return len(values) > 0 and values.min() >= 0 and bool(_SMALLEST_IN_UNIT_PANEL <= values.max() <= 1)


def _draw_panel(axes: "Axes", epochs: Values, curves: Sequence[Mapping[str, Values]]) -> None:
    handles: list[Line2D] = []
    names: list[str] = []
    look: dict[str, Any]
    for colour, lines in zip(COLOURS, curves, strict=False):
        for name, values in lines.items():
            # Of many epochs no dashes are seen: there the training curve is pale.
            look = (
                {"linestyle": "--"} if name.startswith("val_") else {"alpha": 0.45 if len(epochs) > _MANY_EPOCHS else 1}
            )
            handles.append(_draw_line(axes, epochs, values, color=colour, **look))
            names.append(name if np.isfinite(values).any() else f"{name} (never finite)")
    all_values = np.concatenate([values for lines in curves for values in lines.values()])
    if _fits_unit_panel(all_values):
        # As in the book.
        axes.set_ylim(0, 1)
    else:
        _set_scale(axes, all_values, usual=np.median)
    # Beside the axes, where it hides no curve. The names come later: matplotlib drops those that begin with "_".
    legend = axes.legend(
        handles, ["name"] * len(names), loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, handlelength=2.8
    )
    for artist, name in zip(legend.get_texts(), names, strict=True):
        label(name, size=9, width=2.2, lines=2).write(artist)


def _draw_line(axes: "Axes", epochs: Values, values: Values, **look: Any) -> "Line2D":
    finite = np.concatenate([[False], np.isfinite(values), [False]])
    # A line has no length where both neighbours are missing: such a value is shown by a marker.
    alone = np.flatnonzero(finite[1:-1] & ~finite[:-2] & ~finite[2:]).tolist()
    look["linewidth"] = 1.8 if len(epochs) <= _MANY_EPOCHS else 1.1
    # Hollow for validation, whose dashes a single value does not show.
    fill = "white" if look.get("linestyle") == "--" else look["color"]
    if alone:
        look |= {"marker": "o", "markersize": 5, "markevery": alone, "markerfacecolor": fill}
    shown = np.where(finite[1:-1], values, np.nan)
    axes.grid(alpha=0.3)
    (line,) = axes.plot(epochs, shown, **look)
    return line


def _set_scale(axes: "Axes", values: Values, *, usual: Callable[[Values], Any]) -> None:
    values = values[np.isfinite(values)]
    if len(values) == 0:
        axes.set_yticks([])
        return
    low, high = float(values.min()), float(values.max())
    if low > 0 and high > _LOG_RATIO * usual(values):
        axes.set_yscale("log")
    elif 0 <= low < high / 2:
        axes.set_ylim(bottom=0)
