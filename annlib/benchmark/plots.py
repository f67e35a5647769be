"""The picture of a benchmark: frameworks side by side, and the model of scaling against what was measured."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from annlib.benchmark.cases import CASES
from annlib.benchmark.ring import Link
from annlib.benchmark.scaling import MODELS, PROJECTED_ROWS, PROJECTED_WORKERS, ROWS, WORLD_SIZES, Scaling, strong, weak
from annlib.benchmark.sides import SIDES
from annlib.benchmark.tables import milliseconds
from annlib.benchmark.timing import CaseTiming
from annlib.reporting.style import BLUE, COLOURS, VERMILION, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

COLUMNS = 3


def plot(timings: Mapping[str, CaseTiming], scaling: Scaling | None, path: Path) -> None:
    """Writes a PNG of 300 dpi: a panel a case, and six of the scaling where it was measured.

    Raises:
        StorageError: the file cannot be written.
    """
    heights = [3.6] * bool(timings) + [7.6] * (scaling is not None)
    figure = new_figure(15, sum(heights))
    # Figures within the figure, so that cases and scaling each have columns of their own width.
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if timings:
        _draw_cases(parts.pop(0), timings)
    if scaling is not None:
        _draw_scaling(parts.pop(0), scaling)
    save(figure, path)


def _draw_cases(figure: "SubFigure", timings: Mapping[str, CaseTiming]) -> None:
    from matplotlib.ticker import NullFormatter

    panels = figure.subplots(1, COLUMNS, squeeze=False)[0]
    for axes, (name, case) in zip(panels, timings.items(), strict=False):
        sides = list(reversed(case.sides))
        medians = [1e3 * case.sides[side].median_s for side in sides]
        ends = [(1e3 * min(case.sides[side].epoch_s), 1e3 * max(case.sides[side].epoch_s)) for side in sides]
        errors = np.abs(np.transpose(ends) - medians)
        colours = [VERMILION if side.startswith("annlib") else "#999999" if side == "gemm" else BLUE for side in sides]
        axes.barh([SIDES[side].label for side in sides], medians, xerr=errors, color=colours)
        for row, (median, (_, end)) in enumerate(zip(medians, ends, strict=True)):
            axes.annotate(
                milliseconds(median / 1e3), (end, row), xytext=(4, 0), textcoords="offset points", va="center"
            )
        axes.set(title=CASES[name].title, xlabel="ms/epoch, median and range", xscale="log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.25)
    for axes in panels[len(timings) :]:
        axes.set_axis_off()


def _draw_scaling(figure: "SubFigure", scaling: Scaling) -> None:
    panels = figure.subplots(2, COLUMNS)
    for axes, model in zip(panels[0], MODELS, strict=False):
        _draw_steps(axes, scaling, model)
    _draw_all_reduces(panels[0, 2], scaling)
    for axes, model in zip(panels[1], MODELS, strict=False):
        _draw_projection(axes, scaling, model)
    _draw_speed_up(panels[1, 2], scaling)
    figure.legend(*panels[1, 2].get_legend_handles_labels(), loc="outside lower center", ncols=5)


def _draw_steps(axes: "Axes", scaling: Scaling, model: str) -> None:
    for kind, settings, marker in (("weak", weak(model), "o"), ("strong", strong(model), "s")):
        measured = [1e3 * scaling.step_s("annlib", setting) for setting in settings]
        bare = [1e3 * scaling.step_s("bare", setting) for setting in settings]
        predicted = [1e3 * scaling.predicted_s("annlib", setting) for setting in settings]
        colour = VERMILION if kind == "weak" else BLUE
        axes.plot(WORLD_SIZES, measured, marker=marker, color=colour, label=f"{kind}, annlib")
        axes.plot(WORLD_SIZES, bare, marker=marker, color=colour, linestyle=":", label=f"{kind}, bare loop")
        axes.plot(WORLD_SIZES, predicted, marker="x", color=colour, linestyle="--", label=f"{kind}, predicted")
    title = f"{model}, {scaling.num_cores} cores"
    axes.set(title=title, xlabel="workers", ylabel="ms/step", xscale="log", yscale="log")
    axes.set_xticks(WORLD_SIZES, [str(count) for count in WORLD_SIZES])
    axes.minorticks_off()
    axes.legend(fontsize=8)


def _draw_all_reduces(axes: "Axes", scaling: Scaling) -> None:
    for count, colour in zip((c for c in WORLD_SIZES if c > 1), COLOURS, strict=False):
        sizes = sorted(size for *key, size in scaling.all_reduces if key == ["annlib", count])
        link = scaling.link("annlib", count)
        measured, bare = (
            [1e3 * scaling.all_reduce_s(side, count, size) for size in sizes] for side in ("annlib", "bare")
        )
        fitted = [1e3 * link.all_reduce_s(size, count) for size in sizes]
        axes.plot(sizes, measured, "o", color=colour, label=f"{count} workers, annlib's strategy")
        axes.plot(sizes, bare, "x", color=colour, label=f"{count} workers, TensorFlow's as it comes")
        axes.plot(sizes, fitted, color=colour, label=f"{count} workers, annlib's, fitted")
    axes.set(title="Bare all-reduce", xlabel="bytes", ylabel="ms", xscale="log", yscale="log")
    axes.legend(fontsize=8)


def _draw_projection(axes: "Axes", scaling: Scaling, model: str) -> None:
    def draw(link: Link, colour: str, style: str, label: str | None) -> None:
        shares = [100 * scaling.weak_efficiency(model, count, link) for count in PROJECTED_WORKERS]
        axes.plot(PROJECTED_WORKERS, shares, color=colour, linestyle=style, label=label)

    _draw_networks(axes, scaling, draw)
    axes.set(title=f"Projected, weak, {ROWS} rows a worker: {model}", ylabel="efficiency, %", ylim=(0, 105))


def _draw_speed_up(axes: "Axes", scaling: Scaling) -> None:
    model = list(MODELS)[-1]

    def draw(link: Link, colour: str, style: str, label: str | None) -> None:
        factors = [scaling.strong_speed_up(model, count, link) for count in PROJECTED_WORKERS]
        axes.plot(PROJECTED_WORKERS, factors, color=colour, linestyle=style, label=label)

    _draw_networks(axes, scaling, draw)
    axes.plot(PROJECTED_WORKERS, PROJECTED_WORKERS, color="#999999", linestyle=":", label="perfect")
    axes.set(title=f"Projected, strong, {PROJECTED_ROWS:,} rows: {model}", ylabel="speed-up", yscale="log")


def _draw_networks(axes: "Axes", scaling: Scaling, draw: Callable[[Link, str, str, str | None], None]) -> None:
    for (name, (alone, behind)), colour in zip(scaling.networks().items(), COLOURS, strict=False):
        draw(alone, colour, "-", name)
        draw(behind, colour, "--", None)
    axes.plot([], [], color="black", linestyle="--", label="with the collectives' cost measured here")
    axes.set(xlabel="workers", xscale="log")
    axes.set_xticks(PROJECTED_WORKERS, [str(count) for count in PROJECTED_WORKERS])
    axes.minorticks_off()
