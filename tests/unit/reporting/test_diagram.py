import importlib.util
import logging
import shutil
from pathlib import Path

import keras
import pytest
from PIL import Image

from annlib.errors import DataError, StorageError
from annlib.reporting.plots import model_summary, plot_model_diagram


@pytest.fixture(scope="module")
def model():
    dense = keras.layers.Dense(3, activation="relu", name="hidden_layer")
    return keras.Sequential([keras.Input((4,)), dense], name="small_model")


@pytest.fixture
def dot(monkeypatch):
    """Takes the place of Keras' plot_model; returns what it was called with."""
    calls = []

    def plot_model(model, to_file, **options):
        calls.append(options)
        Image.new("RGB", (20, 10), "red").save(to_file)

    monkeypatch.setattr(keras.utils, "plot_model", plot_model)
    return calls


@pytest.mark.skipif(
    shutil.which("dot") is None or importlib.util.find_spec("pydot") is None, reason="needs graphviz and pydot"
)
def test_diagram_is_drawn_by_graphviz(model, tmp_path):
    assert plot_model_diagram(model, tmp_path / "a.png") is True
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)
        assert min(image.size) > 200


def test_diagram_shows_shapes_and_names_and_is_written_with_300_dpi(model, dot, tmp_path):
    assert plot_model_diagram(model, tmp_path / "a.png") is True
    assert dot == [{"show_shapes": True, "show_layer_names": True, "show_layer_activations": True, "dpi": 300}]
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (20, 10)
        assert image.getpixel((5, 5)) == (255, 0, 0)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_without_graphviz_or_pydot_nothing_is_written(model, tmp_path, monkeypatch):
    def refuse(*arguments, **keywords):
        raise ImportError("You must install pydot")

    monkeypatch.setattr(keras.utils, "plot_model", refuse)
    assert plot_model_diagram(model, tmp_path / "a.png") is False
    assert list(tmp_path.iterdir()) == []


def test_in_a_notebook_without_graphviz_nothing_is_written(model, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.utils, "plot_model", lambda *arguments, **keywords: None)
    assert plot_model_diagram(model, tmp_path / "a.png") is False
    assert list(tmp_path.iterdir()) == []


def test_names_that_dot_refuses_leave_a_warning(model, tmp_path, monkeypatch, caplog):
    def refuse(*arguments, **keywords):
        raise AssertionError('"dot" returned code: 1')

    monkeypatch.setattr(keras.utils, "plot_model", refuse)
    with caplog.at_level(logging.WARNING):
        assert plot_model_diagram(model, tmp_path / "a.png") is False
    assert caplog.messages == ["dot cannot draw the model small_model: rename layers whose names hold <, > or &"]


def test_model_without_shapes_is_refused(tmp_path):
    model = keras.Sequential([keras.layers.Dense(1)], name="unbuilt")
    with pytest.raises(DataError, match="the model unbuilt has no shapes; expected a built model; received one that"):
        plot_model_diagram(model, tmp_path / "a.png")


@pytest.mark.usefixtures("dot")
def test_missing_directory_is_refused(model):
    with pytest.raises(StorageError, match=r"the picture /missing/a\.png cannot be written"):
        plot_model_diagram(model, Path("/missing/a.png"))


def test_summary_holds_layers_shapes_and_numbers_of_parameters(model, capsys):
    summary = model_summary(model)
    for part in ("small_model", "hidden_layer (Dense)", "(None, 3)", "15"):  # 4 * 3 weights and 3 biases
        assert part in summary
    assert capsys.readouterr().out == ""


def test_summary_of_a_model_without_shapes_is_given_too():
    assert "unbuilt" in model_summary(keras.Sequential([keras.layers.Dense(1)], name="unbuilt"))
