"""Predictions and residuals of a regression."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from annlib.errors import DataError
from annlib.reporting.checks import check_finite, check_same_length
from annlib.reporting.style import BLUE, COLOUR_MAP, VERMILION, new_figure, save
from annlib.reporting.text import label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.NDArray[np.float64]

# More points than this cover each other: their density is shown instead.
_MOST_POINTS = 2_000
_NUM_BINS = 60
_PANEL = 4.6


def plot_predicted_against_true(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    path: Path,
    *,
    unit: str | None = None,
    target_names: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Writes the picture of `draw_predicted_against_true`, a PNG of 300 dpi.

    Raises:
        DataError: as of `draw_predicted_against_true`.
        StorageError: `path` cannot be written.
    """
    save(draw_predicted_against_true(y_true, y_pred, unit=unit, target_names=target_names, title=title), path)


def draw_predicted_against_true(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    unit: str | None = None,
    target_names: Sequence[str] | None = None,
    title: str | None = None,
) -> "Figure":
    """Draws the predictions over the true values, a panel a target, with the line on which both are equal.

    More than 2,000 examples are shown as the density of hexagons.

    Args:
        y_true: finite numbers, shape (n,) or (n, num_targets), n at least 1.
        y_pred: the predictions, of the same shape; (n, 1) goes with (n,).
        unit: of the targets.
        target_names: the name of each target.
        title: what stands above.

    Raises:
        DataError: an array is empty or not finite, the shapes differ, or the names are not as many as the targets.
    """
    truth, predicted = _check_targets(y_true, y_pred, target_names)
    num_targets = truth.shape[1]
    num_columns = min(num_targets, 3)
    num_rows = -(-num_targets // num_columns)
    figure = new_figure(num_columns * (_PANEL + 0.8), num_rows * _PANEL + 0.4 * (title is not None), title=title)
    for target in range(num_targets):
        axes = figure.add_subplot(num_rows, num_columns, target + 1)
        true, guess, suffix = _scale(truth[:, target], predicted[:, target], unit)
        limits = _limits(np.concatenate([true, guess]))
        _draw_points(figure, axes, true, guess, limits, limits)
        axes.plot(limits, limits, color=VERMILION, linewidth=1.2, linestyle="--")
        axes.set_aspect("equal")
        label(f"true value{suffix}", width=_PANEL - 1, lines=2).write(axes.xaxis.label)
        label(f"predicted value{suffix}", width=_PANEL - 1.2, lines=2).write(axes.yaxis.label)
        name = "" if target_names is None else f"{target_names[target]}: "
        error = _root_mean_square(predicted[:, target] - truth[:, target])
        label(f"{name}RMSE {error:.4g}", width=_PANEL - 1, lines=2).write(axes.title)
    # With axes of a fixed shape the layout comes to rest at its second run, and drawing the figure runs it once.
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
    return figure


def plot_residuals(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    path: Path,
    *,
    unit: str | None = None,
    target_names: Sequence[str] | None = None,
    title: str | None = None,
) -> None:
    """Writes the picture of `draw_residuals`, a PNG of 300 dpi.

    Raises:
        DataError: as of `draw_residuals`.
        StorageError: `path` cannot be written.
    """
    save(draw_residuals(y_true, y_pred, unit=unit, target_names=target_names, title=title), path)


def draw_residuals(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    *,
    unit: str | None = None,
    target_names: Sequence[str] | None = None,
    title: str | None = None,
) -> "Figure":
    """Draws the residuals, true minus predicted value, over the predictions, and their distribution beside.

    Arguments and errors are those of `draw_predicted_against_true`.
    """
    truth, predicted = _check_targets(y_true, y_pred, target_names)
    num_targets = truth.shape[1]
    figure = new_figure(9, num_targets * 4 + 0.4 * (title is not None), title=title)
    all_axes = figure.subplots(num_targets, 2, squeeze=False, sharey="row", width_ratios=[3, 1])
    for target, (axes, beside) in enumerate(all_axes):
        true, guess, suffix = _scale(truth[:, target], predicted[:, target], unit)
        residuals = true - guess
        limits = _limits(np.append(residuals, 0.0))
        _draw_points(figure, axes, guess, residuals, _limits(guess), limits)
        beside.hist(residuals, bins=np.linspace(*limits, _NUM_BINS), orientation="horizontal", color=BLUE)
        beside.set_xlabel("examples")
        for each in (axes, beside):
            each.axhline(0, color=VERMILION, linewidth=1.2, linestyle="--")
        label(f"predicted value{suffix}", width=4, lines=2).write(axes.xaxis.label)
        label(f"true - predicted value{suffix}", width=2.8, lines=2).write(axes.yaxis.label)
        if target_names is not None:
            label(target_names[target], width=4, lines=2).write(axes.title)
    return figure


def _check_targets(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, target_names: Sequence[str] | None
) -> tuple[Values, Values]:
    """Returns both as float64, shape (n, num_targets)."""
    columns = []
    for name, values in (("y_true", y_true), ("y_pred", y_pred)):
        array = check_finite(name, values)
        if array.ndim not in (1, 2) or array.size == 0:
            raise DataError(
                f"{name} has the wrong shape; expected (n,) or (n, num_targets), n at least 1; received {array.shape}; "
                "give one row per example"
            )
        columns.append(array.reshape(len(array), -1).astype(np.float64))
    truth, predicted = columns
    check_same_length(y_true=truth, y_pred=predicted)
    if truth.shape != predicted.shape:
        raise DataError(
            f"y_true and y_pred differ in shape; expected the same number of targets; received {truth.shape[1]} and "
            f"{predicted.shape[1]}; give both for the same targets"
        )
    if target_names is not None and len(target_names) != truth.shape[1]:
        raise DataError(
            f"target_names do not fit; expected {truth.shape[1]} names; received {len(target_names)}; name each target"
        )
    return truth, predicted


def _root_mean_square(values: Values) -> float:
    # Scaled, because the squares of very large or small values overflow or become 0.
    scale = float(np.abs(values).max()) or 1.0
    return scale * float(np.sqrt(np.mean((values / scale) ** 2)))


def _scale(true: Values, predicted: Values, unit: str | None) -> tuple[Values, Values, str]:
    """Divides very large and very small values by a power of ten, and returns what to write behind their names."""
    size = max(np.abs(true).max(), np.abs(predicted).max())
    power = int(np.floor(np.log10(size))) if size > 0 else 0
    if -4 <= power < 6:
        return true, predicted, "" if unit is None else f" ({unit})"
    # Of the smallest float64 numbers the power of ten itself would be 0.
    divisor = 10.0 ** max(power, -300)
    return true / divisor, predicted / divisor, f" (1e{max(power, -300)}{'' if unit is None else f' {unit}'})"


def _limits(values: Values) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _draw_points(
    figure: "Figure", axes: "Axes", x: Values, y: Values, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    if len(x) <= _MOST_POINTS:
        size, alpha = (26, 0.7) if len(x) <= 200 else (12, 0.35)
        axes.scatter(x, y, s=size, color=BLUE, alpha=alpha, linewidths=0)
    else:
        bins = axes.hexbin(
            x, y, gridsize=_NUM_BINS, extent=(*x_limits, *y_limits), mincnt=1, cmap=COLOUR_MAP, linewidths=0.1
        )
        # Few dense hexagons would make all others look the same on a linear scale.
        bins.set_norm(LogNorm(1, max(10.0, float(np.max(np.asarray(bins.get_array()))))))
        figure.colorbar(bins, ax=axes, label="examples", shrink=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    # matplotlib writes an offset such as +1e9 over the end of the axis' name: to the right of it there is room.
    axes.xaxis.get_offset_text().set(x=1.0, horizontalalignment="left")
    axes.set_xlim(x_limits)
    axes.set_ylim(y_limits)
    axes.grid(alpha=0.3)
