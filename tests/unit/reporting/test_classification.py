import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image
from sklearn.metrics import confusion_matrix

from annlib.errors import DataError
from annlib.reporting.plots import draw_confusion_matrix, plot_confusion_matrix

pytestmark = pytest.mark.filterwarnings("error")

LONG = [f"class {letter} of a very long name with $x_1$ and 100% of it" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


def labels(num_classes, num=3000):
    generator = np.random.default_rng(0)
    truth = generator.integers(0, num_classes, num)
    return truth, np.where(generator.random(num) < 0.7, truth, generator.integers(0, num_classes, num))


def cells(figure):
    """The text of each cell by its place (row, column)."""
    return {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in figure.axes[0].texts
    }


def test_rows_are_the_true_and_columns_the_predicted_classes():
    truth, predicted = labels(4)
    image = draw_confusion_matrix(truth, predicted, list("abcd")).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), confusion_matrix(truth, predicted, normalize="true"))


def test_axes_say_which_is_which(texts):
    figure = draw_confusion_matrix([0, 1], [0, 0], ["no", "yes"])
    assert figure.axes[0].get_ylabel() == "true class"
    assert figure.axes[0].get_xlabel() == "predicted class"
    assert texts(figure).count("yes") == 2


def test_cells_show_percentage_of_the_row_and_count():
    figure = draw_confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], ["a", "b"])
    assert cells(figure) == {(0, 0): "66.7%\n2", (0, 1): "33.3%\n1", (1, 1): "100.0%\n1"}


def test_cells_of_many_classes_show_whole_percentages():
    truth = np.repeat([0, *range(1, 20)], [1000, *[1] * 19])
    predicted = truth.copy()
    predicted[:3] = 1
    predicted[3:300] = 2
    figure = draw_confusion_matrix(truth, predicted, [str(index) for index in range(20)])
    assert cells(figure) == {(0, 0): "70", (0, 1): "<1", (0, 2): "30", **{(i, i): "100" for i in range(1, 20)}}


def test_class_without_examples_is_an_empty_row():
    figure = draw_confusion_matrix([0, 0], [0, 1], ["a", "b", "c"])
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array()[1:], np.zeros((2, 3)))
    assert set(cells(figure)) == {(0, 0), (0, 1)}


def test_title_gives_the_accuracy(texts):
    assert "Confusion matrix: accuracy 0.7500, 4 examples" in texts(
        draw_confusion_matrix([0, 1, 2, 2], [0, 1, 2, 0], ["a long name", "b", "c"])
    )


@pytest.mark.parametrize(("num_classes", "names"), [(1, "A"), (2, LONG), (10, "A"), (26, LONG)])
def test_texts_are_readable(num_classes, names, check_readable):
    names = [names[index % len(names)] for index in range(num_classes)]
    figure = draw_confusion_matrix(*labels(num_classes), names)
    check_readable(figure)
    axes = figure.axes[0]
    assert len(cells(figure)) == len(set(zip(*labels(num_classes), strict=True)))
    assert min(text.get_fontsize() for text in axes.texts) >= 7
    for shown in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [text.get_text()[:7] for text in shown] == [name[:7] for name in names]


def test_texts_of_a_cell_stay_inside_of_it():
    for num_classes in (2, 12, 26):
        figure = draw_confusion_matrix(*labels(num_classes, 90_000), [str(index) for index in range(num_classes)])
        figure.draw_without_rendering()
        axes = figure.axes[0]
        for (row, column), text in zip(cells(figure), axes.texts, strict=True):
            (left, top), (right, bottom) = axes.transData.transform(
                [(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)]
            )
            box = text.get_window_extent()
            assert left < box.x0 < box.x1 < right
            assert bottom < box.y0 < box.y1 < top


def test_numbers_contrast_with_their_cells():
    """WCAG 2 asks for a contrast of 4.5; of any colour, the better one of black and white has it."""
    # Class i is right in 50 + 4 i percent.
    truth = np.repeat(np.arange(12), 100)
    predicted = (truth + (np.tile(np.arange(100), 12) >= 50 + 4 * truth)) % 12
    figure = draw_confusion_matrix(truth, predicted, list("abcdefghijkl"))
    image = figure.axes[0].images[0]
    assert len(cells(figure)) == 24
    for (row, column), text in zip(cells(figure), figure.axes[0].texts, strict=True):
        cell = image.cmap(image.norm(image.get_array()[row, column]))
        dark, light = sorted([_luminance(cell), {"white": 1.0, "black": 0.0}[text.get_color()]])
        assert (light + 0.05) / (dark + 0.05) > 4.5


def _luminance(colour):
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour[:3]]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_colours_go_from_no_example_to_all_and_tell_small_shares_apart():
    image = draw_confusion_matrix([0, 1], [0, 1], ["a", "b"]).axes[0].images[0]
    assert image.cmap == colormaps["cividis"]
    assert [image.norm(value) for value in (0, 1)] == [0, 1]
    assert image.norm(0.05) > 0.2


def test_hundreds_of_classes_stay_readable_and_bounded(check_readable):
    truth = np.arange(500)
    figure = draw_confusion_matrix(truth, truth, [f"n{index:04}" for index in truth])
    check_readable(figure)
    assert max(figure.get_size_inches()) < 20
    assert cells(figure) == {}


def test_file_is_written_with_300_dpi(tmp_path):
    plot_confusion_matrix([0, 1], [0, 0], ["a", "b"], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([0, 1], [0], "y_true and y_pred differ in length; expected one of each per example; received 2 and 1"),
        ([], [], "y_true has the wrong shape; expected (n,), n at least 1; received (0,)"),
        ([0, 2], [0, 0], "y_true has labels without a class name; expected 0 to 1; received 0 to 2"),
        ([0, 1], [0, -1], "y_pred has labels without a class name; expected 0 to 1; received -1 to 0"),
        ([0, 1], [0.2, 0.8], "y_pred has the wrong type; expected integers; received float64"),
        ([0, 1], np.eye(2, dtype=int), "y_pred has the wrong shape; expected (n,), n at least 1; received (2, 2)"),
    ],
)
def test_bad_labels_are_refused(truth, predicted, message):
    with pytest.raises(DataError) as error:
        draw_confusion_matrix(truth, predicted, ["a", "b"])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
