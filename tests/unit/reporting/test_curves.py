import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from annlib.errors import DataError
from annlib.reporting.curves import draw_learning_curves
from annlib.reporting.plots import plot_learning_curves

pytestmark = pytest.mark.filterwarnings("error")


def history(num=5, **columns):
    """Rows as annlib writes them; a column is a function of the time from 0 to 1."""
    times = np.linspace(0, 1, num)
    return [
        {"epoch": index + 1, **{name: float(column(time)) for name, column in columns.items()}, "seconds": 1.0}
        for index, time in enumerate(times)
    ]


def falling(first, last):
    return lambda time: first + (last - first) * time


BOOK = {"loss": falling(0.7, 0.2), "accuracy": falling(0.7, 0.9), "val_loss": falling(0.6, 0.3)}


def draw(rows):
    return draw_learning_curves(rows, title="t")


def names(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_file_is_written_with_300_dpi(tmp_path):
    plot_learning_curves(history(**BOOK), tmp_path / "a.png", title="t")
    with Image.open(tmp_path / "a.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


def test_metrics_within_0_and_1_share_a_panel_from_0_to_1():
    (axes,) = draw(history(**BOOK)).axes
    assert axes.get_ylim() == (0, 1)
    assert names(axes) == ["loss", "val_loss", "accuracy"]


def test_lines_hold_the_values_over_the_epochs():
    rows = history(**BOOK)
    lines = draw(rows).axes[0].lines
    for line, name in zip(lines, ["loss", "val_loss", "accuracy"], strict=True):
        np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4, 5])
        np.testing.assert_array_equal(line.get_ydata(), [row[name] for row in rows])


def test_validation_is_dashed_in_the_colour_of_its_metric():
    loss, val_loss, accuracy = draw(history(**BOOK)).axes[0].lines
    assert [line.get_linestyle() for line in (loss, val_loss, accuracy)] == ["-", "--", "-"]
    assert loss.get_color() == val_loss.get_color() != accuracy.get_color()


def test_large_loss_has_a_panel_of_its_own_beside_accuracy():
    upper, lower = draw(history(loss=falling(5, 0.3), accuracy=falling(0.5, 0.9), val_loss=falling(4, 0.4))).axes
    assert names(upper) == ["loss", "val_loss"]
    assert upper.get_ylim()[0] == 0
    assert upper.get_ylim()[1] > 5
    assert names(lower) == ["accuracy"]
    assert lower.get_ylim() == (0, 1)


@pytest.mark.parametrize("size", [1e-7, 1e-3, 1.0, 1e5, 1e300])
def test_no_metric_is_squeezed_flat_beside_accuracy(size):
    figure = draw(history(loss=falling(2 * size, size / 4), accuracy=falling(0.4, 0.9)))
    figure.draw_without_rendering()
    for axes in figure.axes:
        for line in axes.lines:
            heights = axes.transAxes.inverted().transform(axes.transData.transform(line.get_xydata()))[:, 1]
            assert np.ptp(heights) > 0.2


def test_one_huge_value_does_not_flatten_the_others():
    rows = history(10, loss=falling(2, 1))
    rows[0]["loss"] = 1e6
    (axes,) = draw(rows).axes
    assert axes.get_yscale() == "log"


def test_negative_values_are_shown():
    (axes,) = draw(history(r2=falling(-1, 0.8))).axes
    assert axes.get_ylim()[0] < -1


def test_learning_rate_has_a_panel_only_when_it_changes():
    assert len(draw(history(**BOOK, learning_rate=falling(0.1, 0.1))).axes) == 1
    upper, lower = draw(history(**BOOK, learning_rate=falling(0.1, 0.01))).axes
    assert lower.get_ylabel() == "learning rate"
    assert lower.get_position().height < upper.get_position().height / 2
    np.testing.assert_allclose(lower.lines[0].get_ydata(), np.linspace(0.1, 0.01, 5))


def test_learning_rate_over_decades_is_on_a_logarithmic_axis():
    figure = draw(history(20, **BOOK, learning_rate=lambda time: 0.1 * 10 ** (-4 * time)))
    assert figure.axes[-1].get_yscale() == "log"


def test_columns_that_are_no_metrics_are_not_drawn():
    (axes,) = draw(history(loss=falling(0.5, 0.1), samples_per_s=falling(1e4, 2e4))).axes
    assert names(axes) == ["loss"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), "nan", "inf", "", None])
def test_values_that_are_not_finite_are_gaps(bad):
    rows = history(5, loss=falling(0.5, 0.1))
    rows[2]["loss"] = bad
    (axes,) = draw(rows).axes
    np.testing.assert_array_equal(np.isfinite(axes.lines[0].get_ydata()), [True, True, False, True, True])
    assert axes.get_ylim() == (0, 1)


def test_metric_without_a_finite_value_is_named_as_such():
    (axes,) = draw(history(loss=falling(0.5, 0.1), val_loss=lambda _: float("nan"))).axes
    assert names(axes) == ["loss", "val_loss (never finite)"]


def test_history_without_any_finite_value_is_drawn(check_readable):
    check_readable(draw(history(loss=lambda _: float("inf"))))


def test_value_between_two_gaps_is_a_marker():
    rows = history(5, loss=falling(0.5, 0.1))
    rows[1]["loss"] = rows[3]["loss"] = "nan"
    (line,) = draw(rows).axes[0].lines
    assert line.get_marker() == "o"
    assert list(line.get_markevery()) == [0, 2, 4]


def test_one_epoch_is_markers_hollow_for_validation(check_readable):
    figure = draw(history(1, **BOOK))
    check_readable(figure)
    loss, val_loss, _ = figure.axes[0].lines
    assert [line.get_marker() for line in (loss, val_loss)] == ["o", "o"]
    assert to_hex(val_loss.get_markerfacecolor()) == "#ffffff" != to_hex(loss.get_markerfacecolor())
    low, high = figure.axes[0].get_xlim()
    assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [1]


def test_thousand_epochs_have_thin_lines_without_markers_and_few_ticks(check_readable):
    figure = draw(history(1000, **BOOK))
    check_readable(figure)
    loss, val_loss, _ = figure.axes[0].lines
    assert loss.get_marker() == "None"
    assert loss.get_linewidth() < draw(history(30, **BOOK)).axes[0].lines[0].get_linewidth()
    assert loss.get_alpha() < val_loss.get_alpha() if val_loss.get_alpha() else loss.get_alpha() < 1
    assert len(figure.axes[0].get_xticks()) < 15


def test_epochs_are_whole_numbers():
    for num in (1, 2, 3, 30):
        ticks = draw(history(num, **BOOK)).axes[-1].get_xticks()
        np.testing.assert_array_equal(ticks, np.round(ticks))


def test_rows_read_from_the_file_are_drawn_as_numbers():
    rows = [{key: str(value) for key, value in row.items()} for row in history(**BOOK)]
    np.testing.assert_allclose(draw(rows).axes[0].lines[0].get_ydata(), np.linspace(0.7, 0.2, 5))


def test_metric_that_begins_later_is_drawn():
    rows = history(3, loss=falling(0.5, 0.1))
    rows[2]["auc"] = 0.7
    assert names(draw(rows).axes[0]) == ["loss", "auc"]


def test_more_metrics_than_colours_get_another_panel(check_readable):
    figure = draw(history(**{f"metric_{index}": falling(0.9, 0.1) for index in range(10)}))
    check_readable(figure)
    assert [len(axes.lines) for axes in figure.axes] == [7, 3]
    for axes in figure.axes:
        assert len({line.get_color() for line in axes.lines}) == len(axes.lines)


def test_names_and_titles_are_drawn_letter_by_letter_and_fit(check_readable, texts):
    columns = {"$loss_1$": falling(0.7, 0.2), "_hidden": falling(0.5, 0.1), "m" * 90: falling(0.6, 0.1)}
    figure = draw_learning_curves(history(**columns), title="$a$ very long title\n" * 20)
    check_readable(figure)
    assert {"$loss_1$", "_hidden"} <= set(texts(figure))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the history is empty; expected at least 1 epoch; received none; train first"),
        ([{"loss": 1}], "the history has no epochs; expected a column epoch; received loss; number the rows"),
        ([{"epoch": ""}], "the history has no epochs; expected a column epoch; received epoch; number the rows"),
        (
            [{"epoch": 1, "seconds": 2}],
            "the history has no metric; expected a column such as loss; received epoch, seconds; record one",
        ),
        (
            [{"epoch": 1, "loss": "low"}],
            "the history's column 'loss' is not numeric; expected numbers; received 'low'; remove the column",
        ),
    ],
)
def test_bad_histories_are_refused(rows, message):
    with pytest.raises(DataError) as error:
        draw(rows)
    assert str(error.value) == message
