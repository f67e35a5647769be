"""What all pictures share: colours, figures without global state, and PNG files of 300 dpi."""

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from annlib.artifacts import write_atomically
from annlib.errors import StorageError
from annlib.reporting.text import label

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

DPI = 300
# M. Okabe and K. Ito's colours, which colour-blind people tell apart; their yellow is too pale for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
BLUE, VERMILION = COLOURS[:2]
# Of small to large values; for colour-blind people too.
COLOUR_MAP = "cividis"
TITLE_SIZE = 12.0


def new_figure(width: float, height: float, *, title: str | None = None) -> "Figure":
    """Returns an empty figure whose layout keeps axes, labels and title apart.

    Pyplot does not know it, so that threads can draw at the same time.

    Args:
        width: in inches.
        height: in inches.
        title: what stands above everything, at most two lines.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    if title is not None:
        label(title, size=TITLE_SIZE, width=width - 0.4, lines=2).write(figure.suptitle(""))
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Writes a PNG of 300 dpi to a temporary name, then renames it.

    Raises:
        StorageError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DPI)
    # matplotlib gives its methods no types.
    canvas: Any = FigureCanvasAgg(figure)
    # `savefig` draws everything twice.
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    write_picture(path, Image.fromarray(pixels))


def write_picture(path: Path, image: "Image") -> None:
    """Writes pixels as `save` writes a figure, with the same errors."""
    content = io.BytesIO()
    # The least compression: a half larger in half of the time.
    image.save(content, format="png", dpi=(DPI, DPI), compress_level=1)
    try:
        write_atomically(path, content.getvalue())
    except OSError as error:
        raise StorageError(
            f"the picture {path} cannot be written; expected a file in a writable directory; received "
            f"{error.strerror or error}; create the directory or give another path"
        ) from None
