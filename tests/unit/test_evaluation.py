import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import classification_report, r2_score

from annlib import evaluation
from annlib.artifacts import RunDirectory
from annlib.config import load_config
from annlib.data.own_table.config import TableConfig
from annlib.errors import CheckpointError
from annlib.evaluation import classification_figures, evaluate_run, figures_tables, regression_figures, roc_auc
from annlib.signature import Signature
from annlib.workloads.table import load_data

COMMON: dict[str, Any] = {
    "run": "/runs/r",
    "workload": "w",
    "split": "test",
    "num_samples": 6,
    "num_in_figures": 6,
    "metrics": {"loss": 0.5},
}


def shown(figures: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=120)
    for table in figures_tables(figures):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_figures_of_classes_are_those_of_a_hand_count() -> None:
    # Of three "a" two are found; of two "b" one; "c" is predicted once, wrongly, and never true.
    figures = classification_figures([0, 0, 0, 1, 1], [0, 0, 1, 1, 2], ["a", "b", "c"])
    assert figures == {
        "accuracy": pytest.approx(3 / 5),
        "macro": {
            "precision": pytest.approx((1 + 1 / 2 + 0) / 3),
            "recall": pytest.approx((2 / 3 + 1 / 2 + 0) / 3),
            "f1": pytest.approx((4 / 5 + 1 / 2 + 0) / 3),
        },
        "classes": [
            {"name": "a", "precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(4 / 5), "support": 3},
            {"name": "b", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2},
            {"name": "c", "precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0},
        ],
    }


def test_figures_of_classes_are_those_of_scikit_learns_report() -> None:
    rng = np.random.default_rng(0)
    true, found = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    figures = classification_figures(true[:, np.newaxis].astype(np.uint8), found, ["a", "b", "c", "d"])
    report = classification_report(true, found, target_names=["a", "b", "c", "d"], output_dict=True)
    assert figures["accuracy"] == pytest.approx(report["accuracy"])
    for row, expected in [
        (figures["macro"], report["macro avg"]),
        *((r, report[r["name"]]) for r in figures["classes"]),
    ]:
        assert row["precision"] == pytest.approx(expected["precision"])
        assert row["recall"] == pytest.approx(expected["recall"])
        assert row["f1"] == pytest.approx(expected["f1-score"])


def test_a_class_that_is_never_predicted_makes_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    classification_figures([0, 1], [0, 0], ["a", "b"])
    assert not recwarn.list


def test_the_area_under_the_roc_curve_is_that_of_a_count_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    true, scores = rng.integers(0, 2, (60, 1)), rng.integers(0, 9, 60) / 8
    first, second = scores[true[:, 0] == 0], scores[true[:, 0] == 1]
    higher = np.sign(second[:, np.newaxis] - first) / 2 + 0.5
    assert roc_auc(true, scores) == pytest.approx(higher.mean())


def test_one_class_has_no_roc_curve(recwarn: pytest.WarningsRecorder) -> None:
    assert roc_auc([1, 1], [0.2, 0.7]) is None
    assert not recwarn.list
    text = shown({**COMMON, **classification_figures([1, 1], [0, 1], ["a", "b"]), "roc_auc": None})
    assert "│ ROC AUC       │           │        │      - │       6 │" in text


def test_errors_of_a_regression_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(3, 2, 50).astype(np.float32)
    found = (true + rng.normal(0, 1, 50)).astype(np.float32)
    figures = regression_figures(true, found[:, np.newaxis], "price", "100,000 USD")
    difference = true.astype(np.float64) - found.astype(np.float64)
    assert figures["mse"] == pytest.approx(np.mean(difference**2), rel=1e-12)
    assert figures["rmse"] == pytest.approx(np.sqrt(np.mean(difference**2)), rel=1e-12)
    assert figures["mae"] == pytest.approx(np.mean(np.abs(difference)), rel=1e-12)
    assert figures["r2"] == pytest.approx(r2_score(true.astype(np.float64), found.astype(np.float64)), rel=1e-12)
    assert figures["r2"] == pytest.approx(1 - np.sum(difference**2) / np.sum((true - np.mean(true)) ** 2), rel=1e-5)
    assert (figures["target"], figures["unit"]) == ("price", "100,000 USD")


def test_errors_do_not_cancel_in_float32() -> None:
    # In float32 the squares of 1e8 and 1e8 + 8 would differ by rounding alone.
    figures = regression_figures(np.array([1e8, 2e8], np.float32), np.array([1e8 + 8, 2e8], np.float32), None, None)
    assert figures["mse"] == 32.0


def test_one_sample_has_no_r2(recwarn: pytest.WarningsRecorder) -> None:
    figures = regression_figures([1.0], [2.0], None, None)
    assert figures["r2"] is None
    assert not recwarn.list
    assert "│ R²                  │      - │      │" in shown({**COMMON, **figures})


def test_figures_are_json() -> None:
    for figures in (classification_figures([0, 1], [0, 0], ["a", "b"]), regression_figures([1.0], [2.0], "t", None)):
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures


def test_the_table_of_a_regression_has_the_target_and_its_unit() -> None:
    text = shown({**COMMON, **regression_figures([1.0, 3.0], [2.0, 5.0], "price", "100,000 USD")})
    assert "test split, 6 samples" in text
    assert "│ loss                  │ 0.5000 │" in text
    assert "error of price" in text
    assert "2.5000 │ (100,000 USD)²" in text
    assert "1.5811 │ 100,000 USD" in text
    assert "1.5000 │ 100,000 USD" in text
    assert "-1.5000 │ " in text


def test_the_table_of_a_classification_has_all_classes_averages_and_accuracy() -> None:
    text = shown({**COMMON, **classification_figures([0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 0], ["cat [red]", "dog"])})
    assert "│ cat [red]     │    0.5000 │ 0.5000 │ 0.5000 │       2 │" in text
    assert "│ dog           │    0.7500 │ 0.7500 │ 0.7500 │       4 │" in text
    assert "│ macro average │    0.6250 │ 0.6250 │ 0.6250 │       6 │" in text
    assert "│ accuracy      │           │        │ 0.6667 │       6 │" in text


def test_errors_of_several_targets_are_means_over_them() -> None:
    true = np.array([[1.0, 10.0], [2.0, 30.0], [4.0, 20.0]])
    found = regression_figures(true, true + np.array([1.0, -3.0]), "y", None)
    assert found["mse"] == pytest.approx((1 + 9) / 2)
    assert found["mae"] == pytest.approx((1 + 3) / 2)
    # 1 - 3 * 1 / (variance sum of each column), then the mean.
    assert found["r2"] == pytest.approx(((1 - 3 / (14 / 3)) + (1 - 27 / 200)) / 2)


def test_small_errors_are_shown_with_their_digits() -> None:
    figures = {"split": "test", "num_samples": 2, "num_in_figures": 2, "metrics": {"loss": 5.584e-13}}
    figures.update(regression_figures([1e-12, 2e-12], [2e-12, 3e-12], "y", None))
    console = Console(file=io.StringIO(), width=100)
    for table in figures_tables(figures):
        console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "5.584e-13" in text
    assert "1.000e-12" in text


def write_table(path: Path, values: list[Any]) -> str:
    splits = ["train", "train", "train", "validation", "test"]
    rows = "".join(f"{row % 7},{splits[row // 3 % 5]},{values[row % len(values)]}\n" for row in range(90))
    path.write_text(f"size,fold,kind\n{rows}")
    return str(path)


KINDS = ["lo", "hi", "mid"]
NUMBERS = [number / 9 for number in range(30)]
BY_COLUMN, DRAWN = {"split": "fold"}, {"drop": "fold"}


@pytest.mark.parametrize(
    ("trained", "given", "flags", "received"),
    [
        (["hi", "lo"], [1, 0], BY_COLUMN, "expected 'hi', 'lo', received '0', '1'"),
        (["hi", "lo"], [1, 0], DRAWN, "expected 'hi', 'lo', received '0', '1'"),
        ([0.5, 10], [10, 20], BY_COLUMN, "expected '0.5', '10', received '10', '20'"),
        (KINDS, ["lo", "mid"], BY_COLUMN, "expected 'hi', 'lo', 'mid', received 'lo', 'mid'"),
        (["hi", "lo"], KINDS, BY_COLUMN, "expected 'hi', 'lo', received 'hi', 'lo', 'mid'"),
        (NUMBERS, ["hi", "lo"], BY_COLUMN, "expected numbers, received 'hi', 'lo'"),
        (["hi", "lo"], NUMBERS, BY_COLUMN, "expected 'hi', 'lo', received numbers"),
        ([1, 0], [1.0, 0.0], BY_COLUMN, None),
        ([10, 2, 3], ["10.0", "2", "3e0"], DRAWN, None),
        (KINDS, ["hi", "lo"], BY_COLUMN, None),
        (NUMBERS, [3 * number for number in NUMBERS], DRAWN, None),
    ],
)
def test_the_classes_of_a_table_are_those_of_the_training(
    trained: list[Any],
    given: list[Any],
    flags: dict[str, str],
    received: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_config(
        {"workload": "table", "data": write_table(tmp_path / "old.csv", trained), "target": "kind", **flags},
        defaults={"epochs": 1, "global_batch_size": 8, "learning_rate": 0.1},
        environment={},
        config_class=TableConfig,
    )
    assert isinstance(config, TableConfig)
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(config.to_yaml())
    run.signature.write_text(Signature.from_dataset(load_data(config)).to_json())

    class Compared(Exception):
        """The model would be loaded now."""

    def compare(*_: object) -> None:
        raise Compared

    monkeypatch.setattr(evaluation, "_compute_metrics", compare)
    message = f"has other classes than in the training: {received}. Give" if received else None
    with pytest.raises(CheckpointError if received else Compared, match=message):
        evaluate_run(run, table=write_table(tmp_path / "new.csv", given))
