import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.image import BboxImage
from PIL import Image

from annlib.errors import ConfigError, DataError
from annlib.reporting.plots import draw_samples, draw_worst_mistakes, plot_samples, plot_worst_mistakes

pytestmark = pytest.mark.filterwarnings("error")

LONG = [f"class {letter} of a very long name with $x_1$ and 100% of it" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]


def images(num, height=4, width=4):
    return np.random.default_rng(0).integers(0, 256, (num, height, width), np.uint8)


def artists(figure):
    return figure.findobj(BboxImage)


def captions(figure, num_lines=1):
    """The texts above each image; they are drawn image by image, after the title."""
    texts = [text.get_text() for text in figure.texts[-num_lines * len(artists(figure)) :]]
    return [texts[start : start + num_lines] for start in range(0, len(texts), num_lines)]


def shown(figure):
    return [np.asarray(image.get_array()) for image in artists(figure)]


def boxes(figure):
    return [image.get_window_extent() for image in artists(figure)]


def check_images_are_apart_from_texts(figure):
    """To be called on a figure that is already drawn."""
    texts = [text.get_window_extent() for text in figure.texts]
    for box in boxes(figure):
        assert not any(box.overlaps(text) for text in texts)


# Samples


def test_samples_fill_a_grid_of_4_by_10_with_the_names_of_their_classes():
    labels = np.arange(50) % 3
    figure = draw_samples(images(50), labels, ["a", "b", "c"])
    assert captions(figure) == [["abc"[label]] for label in labels[:40]]
    places = np.array([box.min for box in boxes(figure)]).reshape(4, 10, 2)
    assert (np.diff(places[..., 0], axis=1) > 0).all()
    assert (np.diff(places[..., 1], axis=0) < 0).all()


def test_samples_are_the_images_black_on_white():
    pictures = images(3)
    figure = draw_samples(pictures, [0, 0, 0], ["a"])
    np.testing.assert_allclose(shown(figure), pictures / 255)
    image = artists(figure)[0]
    assert [to_hex(image.cmap(image.norm(value))) for value in (0, 1)] == ["#ffffff", "#000000"]


def test_images_of_floats_are_scaled_from_the_smallest_to_the_largest():
    pictures = np.array([[[-2.0, 0.0], [1.0, 2.0]]])
    np.testing.assert_allclose(shown(draw_samples(pictures, [0], ["a"])), [[[0, 0.5], [0.75, 1]]])


@pytest.mark.parametrize("value", [0, 0.3, -1e6])
def test_images_of_one_value_are_drawn(value):
    assert np.isfinite(shown(draw_samples(np.full((1, 2, 2), value), [0], ["a"]))).all()


def test_images_with_one_channel_are_grey_and_with_three_are_coloured():
    assert shown(draw_samples(images(1)[..., np.newaxis], [0], ["a"]))[0].shape == (4, 4)
    coloured = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8)
    np.testing.assert_allclose(shown(draw_samples(coloured, [0], ["a"])), coloured / 255)


@pytest.mark.parametrize("num", [1, 3, 11])
def test_fewer_images_than_cells_are_all_drawn(num, check_readable):
    figure = draw_samples(images(num), np.zeros(num, int), ["a"], title="Title")
    check_readable(figure)
    assert len(artists(figure)) == num


def test_long_names_and_titles_overlap_nothing(check_readable):
    figure = draw_samples(images(40), np.arange(40) % 26, LONG, title="A long title " * 30)
    check_readable(figure)
    check_images_are_apart_from_texts(figure)


@pytest.mark.parametrize("shape", [(30, 5), (5, 30)])
def test_images_that_are_not_square_keep_their_shape_and_overlap_nothing(shape, check_readable):
    figure = draw_samples(images(12, *shape), np.arange(12), LONG, num_columns=4)
    check_readable(figure)
    check_images_are_apart_from_texts(figure)
    box = boxes(figure)[0]
    assert box.height / box.width == pytest.approx(shape[0] / shape[1], rel=0.01)


def test_samples_file_is_written_with_300_dpi(tmp_path):
    plot_samples(images(2), [0, 1], ["a", "b"], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize(
    ("pictures", "labels", "message"),
    [
        (images(2), [0], "images and labels differ in length; expected one of each per example; received 2 and 1"),
        (images(2), [0, 2], "labels has labels without a class name; expected 0 to 1; received 0 to 2"),
        (images(2), [0, -1], "expected 0 to 1; received -1 to 0; check the labels or name all classes"),
        (images(2), [0.0, 1.0], "labels has the wrong type; expected integers; received float64"),
        (images(2), [[0], [1]], "labels has the wrong shape; expected (n,), n at least 1; received (2, 1)"),
        (images(0), [], "images have the wrong shape; expected (n, height, width), (n, height, width, 1) or"),
        (np.zeros((2, 16)), [0, 1], "n at least 1; received (2, 16); reshape them"),
        (np.zeros((2, 4, 4, 2)), [0, 1], "n at least 1; received (2, 4, 4, 2); reshape them"),
        (np.full((2, 2, 2), np.nan), [0, 1], "images is not finite; expected numbers; received 8 NaN or infinite"),
        (np.full((2, 2, 2), "x"), [0, 1], "images is not numeric; expected numbers; received dtype <U1"),
    ],
)
def test_bad_samples_are_refused(pictures, labels, message):
    with pytest.raises(DataError) as error:
        draw_samples(pictures, labels, ["a", "b"])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_grid_without_cells_is_refused():
    with pytest.raises(ConfigError, match="expected 1 row and column or more; received 0 x 10"):
        draw_samples(images(1), [0], ["a"], num_rows=0)


# Worst mistakes

TRUTH = np.array([0, 1, 2, 0, 1])
# Right, wrong with 0.6, wrong with 0.9, right, wrong with 0.7.
CHANCES = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.05, 0.9, 0.05], [0.4, 0.3, 0.3], [0.0, 0.3, 0.7]])


def test_mistakes_come_with_the_surest_first():
    pictures = images(5)
    figure = draw_worst_mistakes(pictures, TRUTH, CHANCES, ["coat", "bag", "shirt"])
    assert captions(figure, 2) == [
        ["bag 90.0%", "true: shirt"],
        ["shirt 70.0%", "true: bag"],
        ["coat 60.0%", "true: bag"],
    ]
    np.testing.assert_allclose(shown(figure), pictures[[2, 4, 1]] / 255)


def test_no_more_mistakes_than_asked_for_are_drawn():
    figure = draw_worst_mistakes(images(5), TRUTH, CHANCES, ["a", "b", "c"], num=2)
    assert [caption[0] for caption in captions(figure, 2)] == ["b 90.0%", "c 70.0%"]
    assert figure.texts[0].get_text() == "Mistakes of the highest confidence, 2 of 3"


def test_equally_sure_mistakes_keep_their_order():
    figure = draw_worst_mistakes(images(30), np.zeros(30, int), np.tile([0.2, 0.8], (30, 1)), ["a", "b"])
    np.testing.assert_allclose(shown(figure), images(30)[:20] / 255)


def test_prediction_and_truth_differ_in_colour_and_place(check_readable):
    figure = draw_worst_mistakes(images(5), TRUTH, CHANCES, ["coat", "bag", "shirt"])
    check_readable(figure)
    check_images_are_apart_from_texts(figure)
    above, below = figure.texts[1:3]
    assert above.get_color() != below.get_color()
    assert above.get_window_extent().y0 > below.get_window_extent().y0


def test_picture_without_mistakes_says_so(check_readable, texts):
    figure = draw_worst_mistakes(images(3), [0, 1, 0], np.eye(2)[[0, 1, 0]], ["a", "b"])
    check_readable(figure)
    assert texts(figure) == ["No mistake in 3 examples"]


@pytest.mark.parametrize("num", [1, 2, 20])
def test_mistakes_of_many_classes_with_long_names_overlap_nothing(num, check_readable):
    chances = np.full((26, 26), 0.0)
    chances[np.arange(26), (np.arange(26) + 1) % 26] = 1.0
    figure = draw_worst_mistakes(images(26), np.arange(26), chances, LONG, num=num)
    check_readable(figure)
    check_images_are_apart_from_texts(figure)
    assert all(above.endswith(" 100.0%") and below.startswith("true: ") for above, below in captions(figure, 2))


def test_mistakes_file_is_written_with_300_dpi(tmp_path):
    plot_worst_mistakes(images(5), TRUTH, CHANCES, ["a", "b", "c"], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize(
    ("chances", "message"),
    [
        (CHANCES[:, :2], "probabilities have the wrong shape; expected (n, 3); received (5, 2)"),
        (CHANCES[:, 0], "probabilities have the wrong shape; expected (n, 3); received (5,)"),
        (CHANCES[:4], "images and y_true and probabilities differ in length; expected one of each per example"),
        (CHANCES * 5, "probabilities are out of range; expected 0 to 1; received 0 to 4.5; apply the softmax"),
        (CHANCES * np.nan, "probabilities is not finite; expected numbers; received 15 NaN or infinite"),
    ],
)
def test_bad_probabilities_are_refused(chances, message):
    with pytest.raises(DataError) as error:
        draw_worst_mistakes(images(5), TRUTH, chances, ["a", "b", "c"])
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_no_mistakes_asked_for_is_refused():
    with pytest.raises(ConfigError, match="num is too small; expected 1 or more; received 0"):
        draw_worst_mistakes(images(5), TRUTH, CHANCES, ["a", "b", "c"], num=0)
