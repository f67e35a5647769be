import io
from typing import Any

import pytest
from rich.console import Console

from annlib.reporting.terminal import RunDisplay, metrics_table

ROW = {"epoch": 1, "loss": 0.5, "accuracy": 0.9, "val_loss": 0.25, "val_accuracy": 0.75, "val_auc": 0.5}


@pytest.mark.parametrize(
    ("metrics", "row", "line"),
    [
        (["auc"], ROW, "epoch 1/3  loss 0.5000  val_loss 0.2500  val_auc 0.5000  1,000 samples/s"),
        ([], ROW, "epoch 1/3  loss 0.5000  val_loss 0.2500  val_accuracy 0.7500  1,000 samples/s"),
        (["f1"], ROW, "epoch 1/3  loss 0.5000  val_loss 0.2500  val_accuracy 0.7500  1,000 samples/s"),
        ([], {"epoch": 1, "loss": 0.5}, "epoch 1/3  loss 0.5000  1,000 samples/s"),
        # Rich would take the brackets for markup, and the second for an end without a beginning.
        ([], {"epoch": 1, "loss": 0.5, "val_f1[a]": 1}, "epoch 1/3  loss 0.5000  val_f1[a] 1.0000  1,000 samples/s"),
        ([], {"epoch": 1, "loss": 0.5, "val_[/a]": 1}, "epoch 1/3  loss 0.5000  val_[/a] 1.0000  1,000 samples/s"),
    ],
)
def test_a_line_has_the_losses_and_one_metric(metrics: list[str], row: dict[str, Any], line: str) -> None:
    console = Console(file=io.StringIO(), width=20)
    with RunDisplay(console, epochs=3, metrics=metrics) as display:
        display.show({**row, "samples_per_s": 1000.4})
    assert console.file.getvalue() == f"{line}\n"


def test_a_name_with_brackets_is_shown_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(metrics_table({"test": {"f1[macro]": 0.5, "[/a]": 0.5}}))
    assert "f1[macro]" in console.file.getvalue()
