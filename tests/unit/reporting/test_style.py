import concurrent.futures
import sys

import matplotlib
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from PIL import Image

from annlib.errors import StorageError
from annlib.reporting.style import COLOURS, new_figure, save


def test_file_is_a_png_of_300_dpi_and_of_the_size_of_the_figure(tmp_path):
    save(new_figure(3, 2), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.size == (900, 600)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_equal_figures_make_equal_files(tmp_path):
    for name in ("a.png", "b.png"):
        save(new_figure(3, 2, title="Same"), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_nothing_but_the_file_is_left(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    save(new_figure(1, 1), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_missing_directory_is_refused(tmp_path):
    path = tmp_path / "missing" / "a.png"
    with pytest.raises(StorageError) as error:
        save(new_figure(1, 1), path)
    assert str(error.value) == (
        f"the picture {path} cannot be written; expected a file in a writable directory; received "
        "No such file or directory; create the directory or give another path"
    )


def test_directory_in_place_of_the_file_is_refused_and_nothing_is_left(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(StorageError, match="received Is a directory"):
        save(new_figure(1, 1), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_global_state_of_matplotlib_is_neither_used_nor_changed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    before, figures = matplotlib.rcParams.copy(), dict(_pylab_helpers.Gcf.figs)
    save(new_figure(3, 2, title="T"), tmp_path / "a.png")
    assert matplotlib.rcParams.copy() == before
    assert dict(_pylab_helpers.Gcf.figs) == figures


def test_threads_draw_what_one_thread_draws(tmp_path):
    def draw(name, shift):
        figure = new_figure(3, 2, title=f"title {shift}")
        figure.add_subplot().plot(np.arange(50), np.sin(np.arange(50) + shift), label="x")
        save(figure, tmp_path / name)
        return (tmp_path / name).read_bytes()

    alone = [draw(f"alone{shift}.png", shift) for shift in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draw, [f"{shift}.png" for shift in range(4)], range(4)))
    assert together == alone


def test_colours_are_those_of_okabe_and_ito():
    # M. Okabe, K. Ito, Color Universal Design, 2008, without yellow.
    published = {(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in COLOURS} == published
    assert len(COLOURS) == len(published)
