"""Pictures of images: samples of a data set, and the worst mistakes of a classifier."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from annlib.errors import ConfigError, DataError
from annlib.reporting.checks import Array, check_finite, check_images, check_labels, check_same_length
from annlib.reporting.style import BLUE, TITLE_SIZE, VERMILION, new_figure, save
from annlib.reporting.text import Label, class_labels, label, width_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# Inches, but for the size of the names in points. Two lines of a name are 0.29 inches high.
_IMAGE = 1.0
_CAPTION = 0.36
_MARGIN = 0.12
_TITLE = 0.55
_NAME_SIZE = 8.0
# Between the columns; a caption is as wide as the image and half of it.
_SAMPLES_GAP = 0.14
_MISTAKES_GAP = 0.6
_MISTAKES_COLUMNS = 5


def plot_samples(
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    class_names: Sequence[str],
    path: Path,
    *,
    num_rows: int = 4,
    num_columns: int = 10,
    title: str | None = None,
) -> None:
    """Writes the picture of `draw_samples`, a PNG of 300 dpi.

    Raises:
        ConfigError, DataError: as of `draw_samples`.
        StorageError: `path` cannot be written.
    """
    save(draw_samples(images, labels, class_names, num_rows=num_rows, num_columns=num_columns, title=title), path)


def draw_samples(
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    num_rows: int = 4,
    num_columns: int = 10,
    title: str | None = None,
) -> "Figure":
    """Draws the first images in a grid, each below the name of its class, as in the book's figure 10-11.

    Args:
        images: numbers, shape (n, height, width), (n, height, width, 1) or (n, height, width, 3). Integers of 8 bits
            are shown from 0 to 255, others from the smallest to the largest number that is shown.
        labels: integers, shape (n,), 0 to `len(class_names) - 1`.
        class_names: the name of each label.
        num_rows: rows of the grid; fewer are drawn when there are fewer images.
        num_columns: columns of the grid.
        title: what stands above.

    Raises:
        ConfigError: the grid has no cell.
        DataError: images or labels are empty, differ in length, or have wrong shapes, types or values.
    """
    if num_rows < 1 or num_columns < 1:
        raise ConfigError(
            f"the grid has no cell; expected 1 row and column or more; received {num_rows} x {num_columns}"
        )
    images, numbers = check_images(images), check_labels("labels", labels, class_names)
    check_same_length(images=images, labels=numbers)
    num = num_rows * num_columns
    names = class_labels(class_names, size=_NAME_SIZE, width=_IMAGE + _SAMPLES_GAP / 2, lines=2)
    figure, places = _draw_grid(_to_unit(images[:num]), num_columns, gap=_SAMPLES_GAP, title=title)
    for place, number in zip(places, numbers[:num], strict=True):
        _write_above(figure, place, names[number])
    return figure


def plot_worst_mistakes(
    images: npt.ArrayLike,
    y_true: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    class_names: Sequence[str],
    path: Path,
    *,
    num: int = 20,
    title: str | None = None,
) -> None:
    """Writes the picture of `draw_worst_mistakes`, a PNG of 300 dpi.

    Raises:
        ConfigError, DataError: as of `draw_worst_mistakes`.
        StorageError: `path` cannot be written.
    """
    save(draw_worst_mistakes(images, y_true, probabilities, class_names, num=num, title=title), path)


def draw_worst_mistakes(
    images: npt.ArrayLike,
    y_true: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    class_names: Sequence[str],
    *,
    num: int = 20,
    title: str | None = None,
) -> "Figure":
    """Draws the wrongly classified images that the model was surest of, the surest first.

    Above each image stand the predicted class with its probability, and the true class. Where there is no mistake, the
    picture says so.

    Args:
        images: as of `draw_samples`.
        y_true: integers, shape (n,), 0 to `len(class_names) - 1`.
        probabilities: finite, shape (n, num_classes), 0 to 1; the largest of a row is the prediction.
        class_names: the name of each label.
        num: how many mistakes at most.
        title: what stands above; by default the number of mistakes.

    Raises:
        ConfigError: `num` is below 1.
        DataError: an array is empty or not finite, they differ in length, or have wrong shapes, types or values.
    """
    if num < 1:
        raise ConfigError(f"num is too small; expected 1 or more; received {num}; leave it out for 20")
    images, truth = check_images(images), check_labels("y_true", y_true, class_names)
    chances = _check_probabilities(probabilities, len(class_names))
    check_same_length(images=images, y_true=truth, probabilities=chances)
    predicted, confidence = chances.argmax(axis=1), chances.max(axis=1)
    mistakes = np.flatnonzero(predicted != truth)
    # Stable, so that the same data gives the same picture.
    worst = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:num]
    if len(worst) == 0:
        figure = new_figure(6, 2)
        text = label(f"No mistake in {len(truth):,} examples", size=14, width=5.6)
        text.write(figure.text(0.5, 0.5, "", ha="center", va="center"))
        return figure
    if title is None:
        title = f"Mistakes of the highest confidence, {len(worst):,} of {len(mistakes):,}"
    # The captions are "Pullover 98.3%" and, below, "true: Shirt".
    base = label("100.0% ", size=_NAME_SIZE)
    width = _IMAGE + _MISTAKES_GAP * 0.75 - width_of(base.text, base.families, base.size)
    names = class_labels(class_names, size=_NAME_SIZE, width=width)
    figure, places = _draw_grid(_to_unit(images[worst]), _MISTAKES_COLUMNS, gap=_MISTAKES_GAP, title=title)
    for place, index in zip(places, worst, strict=True):
        guess, true = names[predicted[index]], names[truth[index]]
        guess = replace(guess, text=f"{guess.text} {confidence[index]:.1%}")
        _write_above(figure, place, guess, line=1, colour=VERMILION)
        _write_above(figure, place, replace(true, text=f"true: {true.text}"), colour=BLUE)
    return figure


def _check_probabilities(probabilities: npt.ArrayLike, num_classes: int) -> Array:
    array = check_finite("probabilities", probabilities)
    if array.ndim != 2 or array.shape[1] != num_classes:
        raise DataError(
            f"probabilities have the wrong shape; expected (n, {num_classes}); received {array.shape}; "
            "give one probability per class name"
        )
    if array.size and (array.min() < 0 or array.max() > 1 + 1e-3):
        raise DataError(
            f"probabilities are out of range; expected 0 to 1; received {array.min():g} to {array.max():g}; "
            "apply the softmax function first"
        )
    return array


def _to_unit(images: Array) -> Array:
    """Returns the images as float64 from 0 to 1."""
    if images.dtype == np.uint8:
        return images / 255.0
    images = images.astype(np.float64)
    low, high = images.min(), images.max()
    unit: Array = (images - low) / (high - low) if high > low else np.zeros_like(images)
    return unit


def _draw_grid(images: Array, num_columns: int, *, gap: float, title: str | None) -> tuple["Figure", list["Bbox"]]:
    """Draws images from 0 to 1, row by row, with room for two lines above each.

    The images are parts of the figure itself and their places are computed here, because axes for each of them, and a
    layout engine for so many, take seconds.

    Returns:
        The figure, and the place of each image, in inches.
    """
    from matplotlib.colors import Normalize
    from matplotlib.image import BboxImage
    from matplotlib.transforms import Bbox, TransformedBbox

    num_columns = min(num_columns, len(images))
    num_rows = -(-len(images) // num_columns)
    above = _TITLE if title else _MARGIN
    # Few images must not leave the title without room.
    width = max(num_columns * (_IMAGE + gap), 4.0 if title else 0.0) + 2 * _MARGIN
    height = above + num_rows * (_IMAGE + _CAPTION) + _MARGIN
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    if title:
        text = label(title, size=TITLE_SIZE, width=width - 2 * _MARGIN, lines=2)
        text.write(figure.text(0.5, 1 - _MARGIN / 2 / height, "", ha="center", va="top"))
    left = (width - num_columns * (_IMAGE + gap)) / 2 + gap / 2
    largest = max(images.shape[1:3])
    image_width, image_height = _IMAGE * images.shape[2] / largest, _IMAGE * images.shape[1] / largest
    places = []
    for index, image in enumerate(images):
        row, column = divmod(index, num_columns)
        x = left + column * (_IMAGE + gap) + (_IMAGE - image_width) / 2
        y = height - above - (row + 1) * (_IMAGE + _CAPTION) + (_IMAGE - image_height) / 2
        place = Bbox.from_bounds(x, y, image_width, image_height)
        # Black on white, as in the book.
        artist = BboxImage(
            TransformedBbox(place, figure.dpi_scale_trans),
            cmap="binary",
            norm=Normalize(0, 1),
            interpolation="nearest",
            data=image,
        )
        figure.add_artist(artist)
        places.append(place)
    return figure, places


def _write_above(figure: "Figure", place: "Bbox", text: Label, *, line: int = 0, colour: str = "black") -> None:
    # On a common baseline, whichever letters a name has.
    x, y = (place.x0 + place.x1) / 2, place.y1 + (4 + line * _NAME_SIZE * 1.3) / 72
    style: dict[str, Any] = {"ha": "center", "va": "baseline", "color": colour, "linespacing": 1.15}
    text.write(figure.text(x, y, "", transform=figure.dpi_scale_trans, **style))
