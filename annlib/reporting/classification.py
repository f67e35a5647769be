"""The confusion matrix of a classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from annlib.reporting.checks import check_labels, check_same_length
from annlib.reporting.style import COLOUR_MAP, new_figure, save
from annlib.reporting.text import Label, class_labels, width_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Counts = npt.NDArray[np.int64]

# Inches. The largest matrix is bounded because a picture of 300 dpi takes 360 kB of memory a square inch.
_LARGEST_CELL = 0.72
_LARGEST_MATRIX = 13.0
_WIDEST_NAME = 2.4
# Cells from this size on show their percentage.
_SMALLEST_CELL_WITH_TEXT = 0.3
_TICKS = (0, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1)


def plot_confusion_matrix(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    class_names: Sequence[str],
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Writes the picture of `draw_confusion_matrix`, a PNG of 300 dpi.

    Raises:
        DataError: as of `draw_confusion_matrix`.
        StorageError: `path` cannot be written.
    """
    save(draw_confusion_matrix(y_true, y_pred, class_names, title=title), path)


def draw_confusion_matrix(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, class_names: Sequence[str], *, title: str | None = None
) -> "Figure":
    """Draws how many examples of each true class (rows) were predicted as each class (columns).

    Colours and percentages are shares of the row. Up to 12 classes show the counts too; from about 45 classes on there
    are colours only. Cells without examples stay empty.

    Args:
        y_true: integers, shape (n,), 0 to `len(class_names) - 1`.
        y_pred: integers, shape (n,), in the same range.
        class_names: the name of each label.
        title: what stands above; by default the accuracy.

    Raises:
        DataError: the labels are empty, differ in length, or have wrong shapes, types or values.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.ticker import PercentFormatter

    truth, predicted = check_labels("y_true", y_true, class_names), check_labels("y_pred", y_pred, class_names)
    check_same_length(y_true=truth, y_pred=predicted)
    num_classes = len(class_names)
    counts: Counts = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(counts, (truth, predicted), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    cell = min(_LARGEST_CELL, _LARGEST_MATRIX / num_classes)
    names = class_labels(class_names, size=min(10.0, max(6.0, cell * 25)), width=_WIDEST_NAME)
    widest = max(width_of(name.text, name.families, name.size) for name in names)
    is_upright = widest > cell * 0.9
    if title is None:
        title = f"Confusion matrix: accuracy {np.mean(truth == predicted):.4f}, {len(truth):,} examples"
    figure, axes, beside = _place_axes(max(cell * num_classes, 2.5), widest, widest if is_upright else 0.2, title)
    # On a linear scale the mistakes, mostly a few percent, would all look like 0.
    image = axes.imshow(shares, cmap=COLOUR_MAP, norm=PowerNorm(0.5, 0, 1))
    _name_classes(axes, names, cell, rotation=90 if is_upright else 0)
    if cell >= _SMALLEST_CELL_WITH_TEXT:
        _write_shares(axes, image, counts, shares, cell)
    figure.colorbar(image, cax=beside, label="share of the true class", ticks=_TICKS, format=PercentFormatter(1))
    return figure


def _place_axes(side: float, left: float, below: float, title: str) -> tuple["Figure", "Axes", "Axes"]:
    """Returns a figure, square axes and axes of the bar of colours beside; `left` and `below` leave room for names.

    The places are computed here, because a layout engine takes seconds for so many texts and cuts some of them off.
    """
    x, y = left + 0.55, below + 0.5
    width, height = x + side + 1.1, y + side + 0.6
    figure = new_figure(width, height, title=title)
    figure.set_layout_engine("none")
    axes = figure.add_axes((x / width, y / height, side / width, side / height))
    beside = figure.add_axes(((x + side + 0.15) / width, y / height, 0.2 / width, side / height))
    return figure, axes, beside


def _name_classes(axes: "Axes", names: Sequence[Label], cell: float, *, rotation: float) -> None:
    # Where the cells are smaller than the letters, not all classes are named.
    every = max(1, int(np.ceil(names[0].size * 1.25 / 72 / cell)))
    shown = range(0, len(names), every)
    axes.set_xticks(shown, labels=[names[index].text for index in shown], rotation=rotation)
    axes.set_yticks(shown, labels=[names[index].text for index in shown])
    for artists in (axes.get_xticklabels(), axes.get_yticklabels()):
        for index, artist in zip(shown, artists, strict=True):
            names[index].write(artist)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")


def _write_shares(
    axes: "Axes", image: "AxesImage", counts: Counts, shares: npt.NDArray[np.float64], cell: float
) -> None:
    size = min(10.0, cell * 19)
    for row, column in np.argwhere(counts).tolist():
        share = shares[row, column]
        if len(counts) <= 12:
            text = f"{share:.1%}\n{counts[row, column]:,}"
        else:
            text = f"{share * 100:.0f}" if share >= 0.005 else "<1"
        red, green, blue, _ = image.cmap(image.norm(share))
        # Relative luminance, Rec. 709.
        is_dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.46
        colour = "white" if is_dark else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour)
