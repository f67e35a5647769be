"""Text in pictures: names of any script, drawn as they are, in fonts that have their characters, and never too wide."""

import dataclasses
import functools
import logging
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font
    from matplotlib.text import Text

logger = logging.getLogger(__name__)

# Comes with matplotlib, so it is always there and Latin, Greek, Cyrillic and Arabic look the same everywhere.
BASE_FAMILY = "DejaVu Sans"
# Resolution at which text is measured; that of the pictures, because hinting depends on it.
_DPI = 300


@dataclasses.dataclass(frozen=True)
class Label:
    """A text that is ready to be drawn.

    Args:
        text: the lines; all characters are in `families`.
        families: font families, in the order in which matplotlib looks for a character.
        size: in points.
    """

    text: str
    families: tuple[str, ...]
    size: float

    def write(self, artist: "Text") -> None:
        """Makes `artist` show this text, letter by letter: a `$` does not start a formula."""
        style: dict[str, Any] = {"fontfamily": list(self.families), "fontsize": self.size, "parse_math": False}
        artist.set(text=self.text, **style)


def label(text: str, *, size: float = 10, width: float = float("inf"), lines: int = 1) -> Label:
    """Returns a text that can be drawn.

    A text that no fonts of this machine can draw is written with escapes such as `\\ud55c`, and a warning is logged.

    Args:
        text: any text; line breaks, tabs and control characters become spaces.
        size: in points.
        width: largest width in inches; what is wider is wrapped, then shortened in the middle.
        lines: largest number of lines.
    """
    text = _clean(text)
    families = _families(text)
    if families is None:
        _warn([text], "escapes")
        text, families = text.encode("ascii", "backslashreplace").decode(), (BASE_FAMILY,)
    return Label(_wrap(text, families, size, width, lines), families, size)


def class_labels(
    class_names: Sequence[str], *, size: float = 10, width: float = float("inf"), lines: int = 1
) -> list[Label]:
    """Returns the names of all classes as `label` does; one that is empty or cannot be drawn becomes `class 3`."""
    names = [_clean(str(name)) for name in class_names]
    lost = [name for name in names if _families(name) is None]
    if lost:
        _warn(lost, "the numbers of the classes")
    names = [name if name and _families(name) else f"class {index}" for index, name in enumerate(names)]
    return [label(name, size=size, width=width, lines=lines) for name in names]


@functools.lru_cache(maxsize=4096)
def width_of(text: str, families: tuple[str, ...], size: float) -> float:
    """Returns the width of one line in inches."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    # matplotlib gives this class no types.
    renderer_class: Any = RendererAgg
    font = FontProperties(family=list(families), size=size)
    width, _, _ = renderer_class(1, 1, _DPI).get_text_width_height_descent(text, font, False)
    return float(width) / _DPI


def _clean(text: str) -> str:
    # Composed, because fonts often have no glyphs for the parts of a Korean syllable.
    text = unicodedata.normalize("NFC", text)
    return " ".join("".join(" " if unicodedata.category(c) == "Cc" else c for c in text).split())


def _warn(texts: Sequence[str], instead: str) -> None:
    logger.warning(
        "no fonts of this machine have all characters of %d name(s), such as %s: the picture shows %s; install a font, "
        "such as Debian's fonts-noto-cjk or fonts-noto-core",
        len(texts),
        ascii(texts[0]),
        instead,
    )


def _wrap(text: str, families: tuple[str, ...], size: float, width: float, lines: int) -> str:
    if width_of(text, families, size) <= width:
        return text
    words = text.split(" ")
    for num in range(len(words) - 1, 0, -1):
        first = " ".join(words[:num])
        if lines > 1 and width_of(first, families, size) <= width:
            return f"{first}\n{_wrap(' '.join(words[num:]), families, size, width, lines - 1)}"
    return _shorten(text, families, size, width)


def _shorten(text: str, families: tuple[str, ...], size: float, width: float) -> str:
    """Cuts out the middle, because names often differ at their ends: the most that fits, by bisection."""
    low, high = 0, len(text)
    while low < high - 1:
        middle = (low + high) // 2
        if width_of(_cut(text, middle), families, size) <= width:
            low = middle
        else:
            high = middle
    return _cut(text, low)


def _cut(text: str, num: int) -> str:
    return text[: num - num // 2] + "…" + text[len(text) - num // 2 :]


@functools.lru_cache(maxsize=4096)
def _families(text: str) -> tuple[str, ...] | None:
    """Returns the families that together have all characters of `text`; None if this machine has none."""
    families = [BASE_FAMILY]
    missing = _missing_in_family(BASE_FAMILY, set(text))
    while missing:
        family = _best_family(frozenset(missing))
        if family is None:
            return None
        families.append(family)
        missing = _missing_in_family(family, missing)
    return tuple(families)


@functools.lru_cache(maxsize=4096)
def _best_family(characters: frozenset[str]) -> str | None:
    """Returns the family that has most of the characters; of several, an upright sans-serif of normal weight."""
    from matplotlib.font_manager import FontEntry, fontManager, ttfFontProperty

    found: list[tuple[tuple[Any, ...], FontEntry]] = []
    for path in _font_files():
        font = _open_font(path)
        num_missing = len(characters) if font is None else len(_missing(font, characters))
        if font is None or num_missing == len(characters):
            continue
        entry = ttfFontProperty(font)
        plain = (entry.style != "normal", abs(int(entry.weight) - 400) if str(entry.weight).isdigit() else 0)
        sans = re.search("sans|gothic", entry.name, re.IGNORECASE) is None
        found.append(((num_missing, *plain, sans, "mono" in entry.name.lower(), entry.name, path), entry))
    for _, entry in sorted(found, key=lambda item: item[0]):
        # matplotlib caches its list of fonts on disk and does not see those that were installed later.
        if all(known.fname != entry.fname for known in fontManager.ttflist):
            fontManager.addfont(entry.fname)
        if _missing_in_family(entry.name, set(characters)) != characters:
            return entry.name
    return None


@functools.cache
def _font_files() -> tuple[str, ...]:
    """Returns the font files of this machine, without the Last Resort fonts, whose glyphs are boxes."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    files = {*findSystemFonts(), *(entry.fname for entry in fontManager.ttflist)}
    return tuple(sorted(file for file in files if "LastResort" not in file))


def _open_font(path: str) -> "FT2Font | None":
    from matplotlib.ft2font import FT2Font

    try:
        return FT2Font(path)
    except (OSError, RuntimeError):
        # Removed since the list was made, or of a kind that matplotlib cannot draw.
        return None


def _missing(font: "FT2Font", characters: set[str] | frozenset[str]) -> set[str]:
    return {character for character in characters if font.get_char_index(ord(character)) == 0}


def _missing_in_family(family: str, characters: set[str]) -> set[str]:
    from matplotlib.font_manager import FontProperties, findfont

    font = _open_font(findfont(FontProperties(family=[family])))
    return characters if font is None else _missing(font, characters)
