import numpy as np
import pytest
from PIL import Image

from annlib.errors import DataError
from annlib.reporting.plots import (
    draw_predicted_against_true,
    draw_residuals,
    plot_predicted_against_true,
    plot_residuals,
)

pytestmark = pytest.mark.filterwarnings("error")

every_picture = pytest.mark.parametrize("draw", [draw_predicted_against_true, draw_residuals])

UNIT = "kilogrammes per square metre and second, averaged over a very long day"


def targets(num, scale=1.0):
    generator = np.random.default_rng(0)
    truth = generator.normal(size=num)
    return scale * truth, scale * (truth + 0.3 * generator.normal(size=num))


def points(axes):
    return np.asarray(axes.collections[0].get_offsets())


def test_points_are_predictions_over_true_values():
    truth, predicted = targets(50)
    (axes,) = draw_predicted_against_true(truth, predicted).axes
    np.testing.assert_array_equal(points(axes), np.stack([truth, predicted], axis=1))
    assert axes.get_xlabel() == "true value"
    assert axes.get_ylabel() == "predicted value"


def test_line_of_equal_values_is_the_diagonal_of_a_square():
    (axes,) = draw_predicted_against_true(*targets(50)).axes
    (line,) = axes.lines
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert axes.get_xlim() == axes.get_ylim() == tuple(line.get_xdata())
    assert axes.get_aspect() == 1


def test_title_gives_the_root_mean_squared_error():
    (axes,) = draw_predicted_against_true([0.0, 0.0], [3.0, 4.0], target_names=["height"]).axes
    assert axes.get_title() == "height: RMSE 3.536"  # the root of (9 + 16) / 2


def test_residuals_are_true_minus_predicted_over_predicted():
    truth, predicted = targets(50)
    axes, _ = draw_residuals(truth, predicted).axes
    np.testing.assert_array_equal(points(axes), np.stack([predicted, truth - predicted], axis=1))
    assert axes.get_xlabel() == "predicted value"
    assert axes.get_ylabel() == "true - predicted value"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0, 0])


def test_distribution_beside_counts_all_residuals():
    figure = draw_residuals(*targets(500))
    bars = figure.axes[1].patches
    assert sum(bar.get_width() for bar in bars) == 500
    assert len(bars) > 30
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()


@every_picture
@pytest.mark.parametrize("num", [2001, 100_000])
def test_many_points_become_a_density_that_counts_all(draw, num):
    figure = draw(*targets(num))
    counts = figure.axes[0].collections[0].get_array()
    assert len(counts) < 4000
    assert counts.sum() == num
    assert "examples" in [axes.get_ylabel() for axes in figure.axes]


@every_picture
@pytest.mark.parametrize("num", [1, 2, 2000])
def test_few_points_are_all_drawn(draw, num):
    assert len(points(draw(*targets(num)).axes[0])) == num


@every_picture
@pytest.mark.parametrize(("num", "num_targets"), [(1, 1), (100_000, 2), (300, 4)])
def test_texts_are_readable(draw, num, num_targets, check_readable):
    truth, predicted = (np.tile(each[:, np.newaxis], num_targets) for each in targets(num))
    names = [f"target {index} of a long name " * 5 for index in range(num_targets)]
    check_readable(draw(truth, predicted, unit=UNIT, target_names=names, title="$a$ long title " * 20))


@every_picture
@pytest.mark.parametrize(
    ("truth", "predicted"),
    [
        targets(300, 1e300),
        targets(300, 1e-300),
        targets(3000, 1e7),
        ([1e300, -1e300], [-1e300, 1e300]),
        ([1e-310], [2e-310]),
        (1e9 + targets(300)[0], 1e9 + targets(300)[1]),
        (np.ones(5000), np.ones(5000)),
        ([0.0], [0.0]),
        (np.arange(10, dtype=np.uint8), 2 * np.arange(10, dtype=np.int16)),
    ],
    ids=lambda each: None,
)
def test_values_of_any_size_are_spread_over_the_axes(draw, truth, predicted):
    figure = draw(truth, predicted)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    places = axes.transAxes.inverted().transform(axes.transData.transform(points(axes)))
    assert ((places >= 0) & (places <= 1)).all()
    if np.ptp(truth) > 0:
        assert (np.ptp(places, axis=0) > 0.4).all()


@every_picture
def test_offset_of_an_axis_is_readable(draw, check_readable):
    truth, predicted = targets(100)
    check_readable(draw(1e5 + 1e-3 * truth, 1e5 + 1e-3 * predicted, unit=UNIT))


def test_very_large_values_are_divided_by_a_power_of_ten_that_the_axes_name():
    (axes,) = draw_predicted_against_true([2e6, 3e6], [4e6, 5e6], unit="m").axes
    np.testing.assert_allclose(points(axes), [[2, 4], [3, 5]])
    assert axes.get_xlabel() == "true value (1e6 m)"
    assert axes.get_title() == "RMSE 2e+06"


def test_unit_is_drawn_letter_by_letter(texts):
    assert "true value (100,000 US$ $x_1$)" in texts(draw_predicted_against_true([1], [1], unit="100,000 US$ $x_1$"))


def test_one_column_goes_with_no_column():
    (axes,) = draw_predicted_against_true(np.array([1.0, 2.0]), np.array([[3.0], [4.0]])).axes
    np.testing.assert_array_equal(points(axes), [[1, 3], [2, 4]])


def test_each_target_has_a_panel():
    truth = np.arange(8.0).reshape(4, 2)
    left, right = draw_predicted_against_true(truth, truth + 1).axes
    np.testing.assert_array_equal(points(left)[:, 0], truth[:, 0])
    np.testing.assert_array_equal(points(right)[:, 0], truth[:, 1])


@pytest.mark.parametrize("plot", [plot_predicted_against_true, plot_residuals])
def test_file_is_written_with_300_dpi(plot, tmp_path):
    plot([1, 2], [1, 3], tmp_path / "a.png", unit="m")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@every_picture
@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        ([1, 2], [1], "y_true and y_pred differ in length; expected one of each per example; received 2 and 1"),
        ([], [], "y_true has the wrong shape; expected (n,) or (n, num_targets), n at least 1; received (0,)"),
        (np.zeros((1, 1, 1)), [1], "y_true has the wrong shape; expected (n,) or (n, num_targets), n at least 1; rec"),
        ([1, np.inf], [1, 1], "y_true is not finite; expected numbers; received 1 NaN or infinite"),
        ([1, 2], [np.nan, np.nan], "y_pred is not finite; expected numbers; received 2 NaN or infinite"),
        (["a"], [1], "y_true is not numeric; expected numbers; received dtype <U1; convert it first"),
        (np.zeros((2, 3)), np.zeros((2, 2)), "differ in shape; expected the same number of targets; received 3 and 2"),
    ],
)
def test_bad_targets_are_refused(draw, truth, predicted, message):
    with pytest.raises(DataError) as error:
        draw(truth, predicted)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@every_picture
def test_names_that_are_not_as_many_as_the_targets_are_refused(draw):
    with pytest.raises(DataError, match="target_names do not fit; expected 2 names; received 1; name each target"):
        draw(np.zeros((2, 2)), np.zeros((2, 2)), target_names=["a"])
