"""The table and the picture of a search, on trials whose scores are known functions of their hyperparameters."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from annlib.reporting.trials import (
    MIN_TRIALS_FOR_IMPORTANCE,
    Trial,
    draw_trials,
    importances,
    plot_trials,
    trials_table,
)


def make(count: int = 40) -> list[Trial]:
    """Scores that depend on the learning rate most, on the optimizer a little, on the batch size not at all."""
    generator = np.random.default_rng(0)
    trials = []
    for number in range(count):
        rate, optimizer = 10 ** generator.uniform(-4, -1), str(generator.choice(["sgd", "adam"]))
        score = -abs(np.log10(rate) + 2.5) + 0.4 * (optimizer == "adam")
        values = {
            "learning_rate": float(rate),
            "optimizer": optimizer,
            "global_batch_size": int(generator.integers(64)),
        }
        trials.append(Trial(number=number, state="finished", epochs=3, score=float(score), values=values))
    return trials


def test_importances_are_in_the_order_of_the_effects() -> None:
    found = importances(make())
    assert found is not None
    assert found["learning_rate"] > found["optimizer"] > found["global_batch_size"]
    assert sum(found.values()) == pytest.approx(1.0)
    assert found["global_batch_size"] < 0.1


def test_too_few_trials_or_equal_scores_have_no_importances() -> None:
    assert importances(make(MIN_TRIALS_FOR_IMPORTANCE - 1)) is None
    equal = [Trial(number=t.number, state=t.state, epochs=3, score=1.0, values=t.values) for t in make()]
    assert importances(equal) is None


def test_the_picture_has_a_panel_for_each_hyperparameter_the_most_important_first(tmp_path: Path) -> None:
    trials = [*make(40), Trial(number=40, state="failed", epochs=0, score=None, values=make(1)[0].values)]
    options = {"metric": "val_loss", "larger_is_better": True, "logarithmic": ["learning_rate"], "title": "digits"}
    figure = draw_trials(trials, **options)  # type: ignore[arg-type]  # a mapping of all of them
    shown = [axes for axes in figure.axes if axes.axison]
    assert shown[0].get_xlabel().startswith("learning_rate")
    assert len(shown) == 3
    assert shown[0].get_xscale() == "log"
    # 40 trials, one that failed, one that is the workload's own and is drawn again.
    assert sum(len(points.get_offsets()) for points in shown[0].collections) == 42
    plot_trials(trials, tmp_path / "trials.png", **options)  # type: ignore[arg-type]
    assert Image.open(tmp_path / "trials.png").width > 2000


def test_one_trial_is_enough_for_a_picture() -> None:
    figure = draw_trials(make(1), metric="m", larger_is_better=False, logarithmic=[], title="")
    assert len(figure.axes) == 3


def test_the_table_fits_80_columns() -> None:
    output = io.StringIO()
    Console(file=output, width=80).print(trials_table(make(3), "val_[/loss]"))
    text = output.getvalue()
    assert "best by val_[/loss]" in text
    assert "the workload's own" in text
    assert "rate" in text
    assert max(len(line) for line in text.splitlines()) <= 80
