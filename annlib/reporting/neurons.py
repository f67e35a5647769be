"""Pictures of single neurons: activation functions with their derivatives, and a decision boundary."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annlib.errors import DataError
from annlib.models.activations import ACTIVATIONS, numeric_derivative
from annlib.reporting.checks import Array, check_finite, check_labels, check_same_length
from annlib.reporting.style import COLOURS, new_figure, save
from annlib.reporting.text import class_labels, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# As in the book's figure.
_MAX_Z = 4.5
_LINE_STYLES = ("-", "--", "-", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
# Points of the grid in each direction that the predictions are made for.
_GRID = 500


def plot_activations(path: str | Path) -> None:
    """Writes the picture of `draw_activations`, a PNG of 300 dpi.

    Raises:
        StorageError: `path` cannot be written.
    """
    save(draw_activations(), Path(path))


def draw_activations() -> "Figure":
    """Draws the activation functions beside their derivatives, as in the book's figure 10-8."""
    figure = new_figure(11, 3.6)
    left, right = figure.subplots(1, 2)
    # An even number, so that no point is at 0, where some derivatives do not exist.
    z = np.linspace(-_MAX_Z, _MAX_Z, 1_000)
    for (name, function), colour, style in zip(ACTIVATIONS.items(), COLOURS, _LINE_STYLES, strict=False):
        look: dict[str, Any] = {"color": colour, "linestyle": style, "linewidth": 2, "label": name}
        left.plot(z, function(z), **look)
        right.plot(z, numeric_derivative(function, z), **look)
    right.plot(0, 0, "o", color=COLOURS[0], markersize=7, markerfacecolor="white", markeredgewidth=2)
    right.annotate("step: none at 0", (0, 0), (0.6, -0.13), fontsize=9, va="center", color=COLOURS[0])
    for axes, title, limits in ((left, "Activation functions", (-1.65, 2.4)), (right, "Derivatives", (-0.2, 1.2))):
        axes.set(title=title, xlabel="z", xlim=(-_MAX_Z, _MAX_Z), ylim=limits)
        axes.grid(alpha=0.3)
    left.legend(loc="upper left")
    return figure


def plot_decision_boundary(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    predict: Callable[[Array], npt.ArrayLike],
    feature_names: Sequence[str],
    class_names: Sequence[str],
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Writes the picture of `draw_decision_boundary`, a PNG of 300 dpi.

    Raises:
        DataError: as of `draw_decision_boundary`.
        StorageError: `path` cannot be written.
    """
    save(draw_decision_boundary(x, y, predict, feature_names, class_names, title=title), path)


def draw_decision_boundary(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    predict: Callable[[Array], npt.ArrayLike],
    feature_names: Sequence[str],
    class_names: Sequence[str],
    *,
    title: str | None = None,
) -> "Figure":
    """Draws examples of two features over the regions of the predicted classes.

    Args:
        x: finite numbers, shape (n, 2), n at least 1.
        y: integers or booleans, shape (n,), 0 to `len(class_names) - 1`.
        predict: maps points, shape (250000, 2), floating point, to their labels, shape (250000,), as `y`.
        feature_names: the names of the two columns of `x`.
        class_names: the name of each label.
        title: what stands above.

    Raises:
        DataError: an array, or what `predict` returns, has the wrong shape, type or values; the lengths differ; or the
            names are not as many as the features.
    """
    points, labels = check_finite("x", x), check_labels("y", y, class_names)
    if points.ndim != 2 or points.shape[1] != 2 or len(feature_names) != 2:
        raise DataError(
            f"x does not fit a plane; expected 2 features with 2 names; received shape {points.shape} and "
            f"{len(feature_names)} names; choose two columns"
        )
    check_same_length(x=points, y=labels)
    across, up = (_grid_line(points[:, column]) for column in (0, 1))
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    regions = check_labels("predict's result", predict(grid), class_names)
    check_same_length(points=grid, predictions=regions)

    present = np.unique(labels).tolist()
    # The classes are listed beside, in two lines at most.
    figure = new_figure(7.5, max(4.6, 0.8 + 0.38 * len(present)), title=title)
    axes = figure.add_subplot()
    _draw_regions(axes, across, up, regions.reshape(_GRID, _GRID))
    names = class_labels(class_names, size=9, width=1.8, lines=2)
    handles = []
    for number in present:
        chosen = points[labels == number]
        marker = _MARKERS[number % len(_MARKERS)]
        look: dict[str, Any] = {"color": _colour(number), "edgecolors": "black", "linewidths": 0.4}
        handles.append(axes.scatter(chosen[:, 0], chosen[:, 1], s=26, marker=marker, **look))
    legend = axes.legend(handles, ["name"] * len(handles), loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    for number, artist in zip(present, legend.get_texts(), strict=True):
        names[number].write(artist)
    axes.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    label(feature_names[0], size=10, width=4.6, lines=2).write(axes.xaxis.label)
    label(feature_names[1], size=10, width=3.4, lines=2).write(axes.yaxis.label)
    return figure


def _grid_line(values: Array) -> Array:
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    dtype = values.dtype if values.dtype.kind == "f" else np.float64
    return np.linspace(low - margin, high + margin, _GRID, dtype=dtype)


def _draw_regions(axes: "Axes", across: Array, up: Array, regions: Array) -> None:
    from matplotlib.colors import to_rgb

    present = np.unique(regions)
    paints = np.array([to_rgb(_colour(number)) for number in present.tolist()])
    picture = 1 - 0.22 * (1 - paints[np.searchsorted(present, regions)])
    extent = (float(across[0]), float(across[-1]), float(up[0]), float(up[-1]))
    axes.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    for number in present[:-1]:
        axes.contour(across, up, np.where(regions > number, 1.0, 0.0), levels=[0.5], colors="black", linewidths=1.5)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
