"""What a search shows: the table of its trials, and which hyperparameters matter."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from annlib.reporting.style import BLUE, COLOURS, VERMILION, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Fewer trials say nothing about seven hyperparameters.
MIN_TRIALS_FOR_IMPORTANCE = 8
_COLUMNS = 3
# Of a smaller one, four digits after the point tell too little.
_SMALL_SCORE = 0.001
# A logarithmic axis that spans less has no room for its labels.
_LEAST_LOGARITHMIC = 4
_SHORT = {"global_batch_size": "batch", "learning_rate": "rate"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as it is shown.

    Args:
        number: 0 is the workload's own configuration.
        state: how it ended.
        epochs: completed epochs.
        score: the metric on the validation split; None where there is none.
        values: value of each hyperparameter; numbers make an axis, texts its categories.
    """

    number: int
    state: str
    epochs: int
    score: float | None
    values: Mapping[str, int | float | str]


def trials_table(trials: Sequence[Trial], metric: str) -> Table:
    """Returns a table, a row a trial, in their order."""
    table = Table(title=f"best by {escape(metric)}")
    for heading in ("trial", "state", "epochs", "score"):
        table.add_column(heading, justify="left" if heading == "state" else "right", no_wrap=True)
    table.add_column("configuration")
    for trial in trials:
        score = "" if trial.score is None else show_score(trial.score)
        own = "the workload's own: " if trial.number == 0 else ""
        table.add_row(str(trial.number), trial.state, str(trial.epochs), score, own + summarize(trial.values))
    return table


def show_score(score: float) -> str:
    """Returns a score, or a difference of two, with four digits also where it is small."""
    return f"{score:.4g}" if 0 < abs(score) < _SMALL_SCORE else f"{score:.4f}"


def summarize(values: Mapping[str, int | float | str]) -> str:
    """Returns the values of the hyperparameters in one line; a text tells what it is by itself."""
    parts = []
    for name, value in values.items():
        if isinstance(value, str) and name != "hidden":
            parts.append(value)
        else:
            shown = f"{value:.3g}" if isinstance(value, float) else str(value)
            parts.append(f"{_SHORT.get(name, name)} {shown}")
    return ", ".join(parts)


def importances(trials: Sequence[Trial]) -> dict[str, float] | None:
    """Estimates how much each hyperparameter matters to the score.

    A random forest learns the scores from the hyperparameters; the importance of one is by how much the forest's R² on
    these trials drops where its values are permuted (Breiman, Random Forests, 2001), as a part of the sum of all.

    Returns:
        The importance by hyperparameter, 0 to 1; None where there are too few trials or all have the same score.
    """
    import pandas as pd
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    scored = [trial for trial in trials if trial.score is not None]
    # Ranks, so that one trial that diverged does not count more than all others.
    ranks = pd.Series([trial.score for trial in scored], dtype=float).rank()
    if len(scored) < MIN_TRIALS_FOR_IMPORTANCE or ranks.nunique() < 2:
        return None
    table = pd.DataFrame([dict(trial.values) for trial in scored])
    encoder = make_column_transformer(
        (OneHotEncoder(), make_column_selector(dtype_include=["object", "str"])), remainder="passthrough"
    )
    forest = make_pipeline(encoder, RandomForestRegressor(n_estimators=200, random_state=0))
    forest.fit(table, ranks)
    found = permutation_importance(forest, table, ranks, n_repeats=20, random_state=0).importances_mean.clip(min=0)
    total = found.sum()
    return None if total <= 0 else dict(zip(table.columns, (float(value / total) for value in found), strict=True))


def plot_trials(
    trials: Sequence[Trial], path: Path, *, metric: str, larger_is_better: bool, logarithmic: Sequence[str], title: str
) -> None:
    """Writes the picture of `draw_trials`, a PNG of 300 dpi.

    Raises:
        StorageError: `path` cannot be written.
    """
    figure = draw_trials(trials, metric=metric, larger_is_better=larger_is_better, logarithmic=logarithmic, title=title)
    save(figure, path)


def draw_trials(
    trials: Sequence[Trial], *, metric: str, larger_is_better: bool, logarithmic: Sequence[str], title: str
) -> "Figure":
    """Draws the score over each hyperparameter, the one that matters most first.

    Args:
        trials: all trials, one with a score at the least.
        metric: what the score is.
        larger_is_better: whether it is.
        logarithmic: hyperparameters with a logarithmic axis.
        title: what stands above.
    """
    weights = importances(trials)
    names = list(trials[0].values)
    if weights is not None:
        names.sort(key=lambda name: -weights[name])
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    # One panel has the width of two, for the title and the legend.
    figure = new_figure(3.6 * max(columns, 2), 2.9 * rows + 0.9, title=title)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    limits = _limits([trial.score for trial in trials if trial.score is not None], larger_is_better)
    for index, axes in enumerate(panels.flat):
        if index >= len(names):
            axes.set_axis_off()
            continue
        name = names[index]
        _draw_panel(axes, trials, name, limits, worst=limits[not larger_is_better], is_logarithmic=name in logarithmic)
        axes.set_xlabel(name if weights is None else f"{name}, importance {weights[name]:.2f}")
        if index % columns == 0:
            axes.set_ylabel(metric)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _limits(scores: Sequence[float], larger_is_better: bool) -> tuple[float, float]:
    """Returns the part of the axis that holds the better three quarters, for the worst may be far away."""
    low, high = float(np.min(scores)), float(np.max(scores))
    if larger_is_better:
        low = float(np.quantile(scores, 0.25))
    else:
        high = float(np.quantile(scores, 0.75))
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _draw_panel(
    axes: "Axes",
    trials: Sequence[Trial],
    name: str,
    limits: tuple[float, float],
    *,
    worst: float,
    is_logarithmic: bool,
) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    categories = [value for value in dict.fromkeys(trial.values[name] for trial in trials) if isinstance(value, str)]
    numbers = [value for trial in trials if not isinstance(value := trial.values[name], str)]

    def place(value: int | float | str) -> float:
        return float(categories.index(value)) if isinstance(value, str) else float(value)

    styles: tuple[tuple[str, dict[str, Any], Any], ...] = (
        ("trained to the end", {"color": BLUE, "marker": "o"}, lambda trial: trial.state == "finished"),
        ("stopped early", {"color": COLOURS[4], "marker": "v", "alpha": 0.8}, lambda trial: trial.state == "stopped"),
        ("failed", {"color": COLOURS[6], "marker": "x"}, lambda trial: trial.score is None),
        (
            "the workload's own",
            {"color": VERMILION, "marker": "D", "zorder": 3},
            lambda trial: trial.number == 0 and trial.score is not None,
        ),
    )
    for label, style, belongs in styles:
        chosen = [trial for trial in trials if belongs(trial)]
        # What lies outside, and what has no score, stands at the edge.
        scores = [worst if trial.score is None else float(np.clip(trial.score, *limits)) for trial in chosen]
        axes.scatter([place(trial.values[name]) for trial in chosen], scores, label=label, clip_on=False, **style)
    axes.set_ylim(*limits)
    if categories:
        axes.set_xticks(range(len(categories)), categories, rotation=30 if len(categories) > 3 else 0)
        axes.set_xlim(-0.5, len(categories) - 0.5)
    elif is_logarithmic and min(numbers) > 0 and max(numbers) >= _LEAST_LOGARITHMIC * min(numbers):
        axes.set_xscale("log")
        # The labels between powers of ten overlap, but within two decades there are too few powers.
        between = max(numbers) / min(numbers) < 100
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if between else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=all(isinstance(value, int) for value in numbers)))
    axes.grid(alpha=0.3)
