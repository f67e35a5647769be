"""What a reader needs of every picture: texts that lie inside of it and do not cover each other."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.text import Text

from annlib.reporting import text


def drawn_texts(figure: Figure) -> list[Text]:
    """Draws the figure once and returns the texts that this drew, without the empty ones."""
    drawn = []
    original = Text.draw

    def draw(artist, renderer, *arguments, **keywords):
        if artist.get_visible() and artist.get_text().strip():
            drawn.append(artist)
        return original(artist, renderer, *arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", draw)
        figure.draw_without_rendering()
    return drawn


@pytest.fixture
def texts() -> Callable[[Figure], list[str]]:
    def find(figure: Figure) -> list[str]:
        return [artist.get_text() for artist in drawn_texts(figure)]

    return find


@pytest.fixture
def check_readable() -> Callable[[Figure], None]:
    """Fails if a text is cut off or overlaps another one when the figure is drawn once, as for its file."""

    def check(figure: Figure) -> None:
        figure.set_dpi(300)
        drawn = drawn_texts(figure)
        names = [artist.get_text() for artist in drawn]
        boxes = np.array([artist.get_window_extent().extents for artist in drawn])
        low, high = boxes[:, :2], boxes[:, 2:]
        outside = ((low < 0) | (high > figure.bbox.size)).any(axis=1)
        assert not outside.any(), f"cut off: {[names[index] for index in np.flatnonzero(outside)]}"
        common = np.minimum(high[:, np.newaxis], high) - np.maximum(low[:, np.newaxis], low)
        overlaps = np.argwhere(np.triu((common > 1).all(axis=2), k=1))
        assert not len(overlaps), f"overlapping: {[(names[one], names[other]) for one, other in overlaps]}"

    return check


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has no fonts but the ones that come with matplotlib."""
    path = font_manager.findfont("DejaVu Sans")
    monkeypatch.setattr(text, "_font_files", lambda: (path,))
    _forget_fonts()
    yield
    _forget_fonts()


def _forget_fonts() -> None:
    text._families.cache_clear()
    text._best_family.cache_clear()
