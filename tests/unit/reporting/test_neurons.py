import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_iris
from sklearn.linear_model import Perceptron

from annlib.errors import DataError
from annlib.reporting.plots import (
    draw_activations,
    draw_decision_boundary,
    plot_activations,
    plot_decision_boundary,
)

pytestmark = pytest.mark.filterwarnings("error")


def line_of(axes, name):
    (line,) = [line for line in axes.lines if line.get_label() == name]
    return line.get_data()


# Activation functions


def test_functions_are_drawn_beside_their_derivatives():
    left, right = draw_activations().axes
    z, values = line_of(left, "sigmoid")
    np.testing.assert_allclose(values, 1 / (1 + np.exp(-z)))
    z, values = line_of(right, "sigmoid")
    np.testing.assert_allclose(values, np.exp(-z) / (1 + np.exp(-z)) ** 2, atol=1e-9)
    z, values = line_of(right, "step")
    np.testing.assert_array_equal(values, np.zeros_like(z))


def test_all_functions_are_named_and_told_apart_without_colours_too():
    left, right = draw_activations().axes
    names = [text.get_text() for text in left.get_legend().get_texts()]
    assert names == ["step", "sigmoid", "tanh", "relu", "softplus"]
    for axes in (left, right):
        lines = [line for line in axes.lines if line.get_label() in names]
        assert len({line.get_color() for line in lines}) == 5
        assert len({line.get_linestyle() for line in lines}) >= 4


def test_axes_are_those_of_the_book():
    left, right = draw_activations().axes
    assert left.get_xlim() == right.get_xlim() == (-4.5, 4.5)
    assert left.get_ylim() == (-1.65, 2.4)
    assert right.get_ylim() == (-0.2, 1.2)


def test_activations_are_readable(check_readable):
    check_readable(draw_activations())


def test_activations_file_is_written_with_300_dpi(tmp_path):
    plot_activations(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


# Decision boundary


@pytest.fixture(scope="module")
def iris():
    data = load_iris()
    return data.data[:, 2:], data.target


def boundary(axes):
    (contour,) = [item for item in axes.collections if item.get_paths() and type(item).__name__ == "QuadContourSet"]
    return np.concatenate([path.vertices for path in contour.get_paths()])


def test_boundary_of_a_perceptron_is_its_line(iris):
    x, y = iris
    model = Perceptron(random_state=42).fit(x, y == 0)
    figure = draw_decision_boundary(x, y == 0, model.predict, ["length", "width"], ["not setosa", "setosa"])
    points = boundary(figure.axes[0])
    distances = (points @ model.coef_[0] + model.intercept_[0]) / np.linalg.norm(model.coef_)
    assert len(points) > 50
    assert np.abs(distances).max() < 0.02


def test_regions_have_the_pale_colours_of_their_classes(iris):
    x, y = iris
    (axes,) = draw_decision_boundary(x, y, lambda grid: (grid[:, 0] > 3).astype(int), ["a", "b"], list("abc")).axes
    picture = np.asarray(axes.images[0].get_array())
    assert picture.shape[2] == 3
    assert picture.min() > 0.6
    np.testing.assert_array_equal(picture[0, 0], picture[-1, 0])
    assert not np.array_equal(picture[0, 0], picture[0, -1])


def test_examples_are_drawn_by_class_in_different_colours_and_markers(iris):
    x, y = iris
    (axes,) = draw_decision_boundary(x, y, lambda grid: np.zeros(len(grid), int), ["a", "b"], list("pqr")).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["p", "q", "r"]
    for number, drawn in enumerate(axes.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), x[y == number])
    assert len({tuple(drawn.get_facecolor()[0]) for drawn in axes.collections}) == 3
    assert len({len(drawn.get_paths()[0].vertices) for drawn in axes.collections}) > 1


def test_predictions_are_asked_for_over_all_of_the_axes_in_the_type_of_the_data(iris):
    x, y = iris
    asked = []

    def predict(grid):
        asked.append(grid)
        return np.zeros(len(grid), int)

    (axes,) = draw_decision_boundary(x.astype(np.float32), y, predict, ["a", "b"], list("abc")).axes
    (grid,) = asked
    assert grid.dtype == np.float32
    assert grid.ndim == 2
    np.testing.assert_allclose([grid[:, 0].min(), grid[:, 0].max()], axes.get_xlim())
    np.testing.assert_allclose([grid[:, 1].min(), grid[:, 1].max()], axes.get_ylim())
    assert (grid.min(axis=0) < x.min(axis=0)).all()
    assert (grid.max(axis=0) > x.max(axis=0)).all()


def test_many_classes_with_long_names_are_readable(check_readable):
    names = [f"class {index} of a very long name with $x_1$ and 100% of it" for index in range(12)]
    x = np.random.default_rng(0).normal(size=(60, 2))
    figure = draw_decision_boundary(
        x,
        np.arange(60) % 12,
        lambda grid: np.arange(len(grid)) % 12,
        ["$length_1$ " * 20, "b" * 200],
        names,
        title="t " * 99,
    )
    check_readable(figure)


def test_one_point_is_drawn(check_readable):
    check_readable(draw_decision_boundary([[1, 1]], [0], lambda grid: np.zeros(len(grid), int), ["a", "b"], ["c"]))


def test_decision_boundary_file_is_written_with_300_dpi(tmp_path):
    plot_decision_boundary(
        [[0.0, 1.0]], [0], lambda grid: np.zeros(len(grid), int), ["a", "b"], ["c"], tmp_path / "a.png"
    )
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((2, 3))}, "expected 2 features with 2 names; received shape (2, 3) and 2 names; choose two"),
        ({"x": np.zeros(2)}, "expected 2 features with 2 names; received shape (2,) and 2 names"),
        ({"feature_names": ["a"]}, "received shape (2, 2) and 1 names; choose two columns"),
        ({"x": [[1, 2], [np.nan, 1]]}, "x is not finite; expected numbers; received 1 NaN or infinite"),
        ({"y": [0]}, "x and y differ in length; expected one of each per example; received 2 and 1"),
        ({"y": [0, 3]}, "y has labels without a class name; expected 0 to 1; received 0 to 3"),
        (
            {"predict": lambda grid: np.full(len(grid), 2)},
            "predict's result has labels without a class name; expected 0 to 1; received 2 to 2",
        ),
        (
            {"predict": lambda grid: np.zeros((len(grid), 2))},
            "predict's result has the wrong shape; expected (n,), n at least 1; received (250000, 2)",
        ),
        (
            {"predict": lambda grid: [0]},
            "points and predictions differ in length; expected one of each per example; received 250000 and 1",
        ),
    ],
)
def test_bad_arguments_are_refused(changes, message):
    arguments = {
        "x": np.zeros((2, 2)),
        "y": [0, 1],
        "predict": lambda grid: np.zeros(len(grid), int),
        "feature_names": ["a", "b"],
        "class_names": ["c", "d"],
    }
    with pytest.raises(DataError) as error:
        draw_decision_boundary(**arguments | changes)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
