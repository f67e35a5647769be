import logging
import unicodedata

import pytest
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from annlib.reporting import text
from annlib.reporting.style import new_figure, save
from annlib.reporting.text import class_labels, label, width_of

pytestmark = pytest.mark.filterwarnings("error")

HANGUL = "한국어 이름"


@pytest.fixture
def hangul_font():
    if not any(FT2Font(path).get_char_index(ord("한")) for path in text._font_files()):
        pytest.skip("this machine has no font with Korean letters; apt-get install fonts-nanum")


def draw(written, path):
    figure = new_figure(4, 1)
    artist = figure.text(0.5, 0.5, "")
    written.write(artist)
    save(figure, path)
    return artist


def undrawable(artist):
    """The characters of a text that none of its families has."""
    files = [font_manager.findfont(font_manager.FontProperties(family=[name])) for name in artist.get_fontfamily()]
    fonts = [FT2Font(file) for file in files]
    return [c for c in artist.get_text() if c != "\n" and not any(font.get_char_index(ord(c)) for font in fonts)]


@pytest.mark.parametrize("name", ["$x_1$", "100%", "a_b", r"\alpha", "$", r"\$5 and $6", "{}", "_hidden"])
def test_special_characters_are_drawn_as_they_are(name, tmp_path):
    artist = draw(label(name), tmp_path / "a.png")
    assert artist.get_text() == name
    assert artist._preprocess_math(name) == (name, False)


@pytest.mark.parametrize("name", ["a\nb", "a\r\nb", " a\tb ", "a\x00b", "a\x1b b"])
def test_line_breaks_and_control_characters_become_spaces(name):
    assert label(name).text == "a b"


def test_latin_greek_cyrillic_and_arabic_need_no_other_font():
    for name in ("Coat", "Ελληνικά", "кириллица", "العربية"):
        assert label(name).families == ("DejaVu Sans",)


@pytest.mark.usefixtures("hangul_font")
def test_korean_is_drawn_in_a_font_that_has_it(tmp_path, caplog):
    artist = draw(label(f"{HANGUL} a_b"), tmp_path / "a.png")
    assert artist.get_text() == f"{HANGUL} a_b"
    assert undrawable(artist) == []
    assert not caplog.records


@pytest.mark.usefixtures("hangul_font")
def test_decomposed_korean_is_composed():
    assert label(unicodedata.normalize("NFD", HANGUL)).text == HANGUL


@pytest.mark.usefixtures("hangul_font")
def test_korean_class_names_keep_their_letters():
    assert [name.text for name in class_labels([HANGUL, "Coat"])] == [HANGUL, "Coat"]


@pytest.mark.usefixtures("only_dejavu")
def test_without_a_font_classes_become_their_numbers_with_one_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        names = class_labels(["코트", "Coat", "바지", "샌들"])
    assert [name.text for name in names] == ["class 0", "Coat", "class 2", "class 3"]
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "of 3 name(s), such as '\\ucf54\\ud2b8'" in message
    assert "fonts-noto-cjk" in message
    assert undrawable(draw(names[0], tmp_path / "a.png")) == []


@pytest.mark.usefixtures("only_dejavu")
def test_without_a_font_other_texts_become_escapes_with_one_warning(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        written = label("run 한")
    assert written.text == "run \\ud55c"
    assert len(caplog.records) == 1
    assert undrawable(draw(written, tmp_path / "a.png")) == []


@pytest.mark.parametrize("name", ["\ud800", "\U0010fffd"])
def test_characters_that_no_font_has_never_become_boxes(name, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert class_labels([name])[0].text == "class 0"
        artist = draw(label(name), tmp_path / "a.png")
    assert artist.get_text().isascii()


@pytest.mark.parametrize("name", ["", "  ", "\n"])
def test_empty_class_names_become_their_numbers_without_a_warning(name, caplog):
    assert [each.text for each in class_labels(["a", name])] == ["a", "class 1"]
    assert not caplog.records


def test_the_last_resort_font_is_never_used():
    assert not any("LastResort" in file for file in text._font_files())


def test_short_text_is_not_changed():
    assert label("Ankle boot", size=8, width=1).text == "Ankle boot"


def test_measured_width_is_that_of_the_drawn_text():
    figure = new_figure(4, 1)
    figure.set_dpi(300)
    artist = figure.text(0, 0, "")
    label("Ankle boot", size=9).write(artist)
    figure.draw_without_rendering()
    assert width_of("Ankle boot", ("DejaVu Sans",), 9) == pytest.approx(
        artist.get_window_extent().width / 300, abs=0.02
    )


def test_wide_text_is_wrapped_at_a_space():
    assert label("a long name of words", size=10, width=0.9, lines=2).text == "a long name\nof words"


@pytest.mark.parametrize("lines", [1, 2])
def test_what_does_not_fit_loses_its_middle(lines):
    name = "beginning " + "middle " * 50 + "end"
    written = label(name, size=10, width=1.5, lines=lines)
    rows = written.text.split("\n")
    assert len(rows) == lines
    assert all(width_of(row, written.families, 10) <= 1.5 for row in rows)
    assert written.text.startswith("beg")
    assert written.text.endswith("end")
    assert written.text.count("…") == 1


def test_one_word_that_does_not_fit_loses_its_middle():
    written = label("x" * 30 + "y" * 30, size=10, width=1, lines=2).text
    assert written.startswith("xx")
    assert written.endswith("yy")
    assert "…" in written
