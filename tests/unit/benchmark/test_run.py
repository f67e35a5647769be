"""Tables, figures and the picture of a run whose measurements were made up."""

import io
import json
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from annlib.benchmark import run as run_module
from annlib.benchmark.cases import CASES
from annlib.benchmark.run import run
from annlib.benchmark.scaling import COMPUTE_ROWS, MODELS, Scaling, Setting, gradient_bytes, strong, weak
from annlib.benchmark.streaming import StreamingTiming
from annlib.benchmark.timing import CaseTiming, SideTiming, Start
from annlib.errors import DataError, StorageError


def side(*epoch_s: float, loss: float | None = 0.5) -> SideTiming:
    start = Start(import_s=3.0, build_s=0.25, first_call_s=2.0, loss=loss)
    return SideTiming(start=start, compile_s=1.0, epochs=2, epoch_s=list(epoch_s), peak_memory_bytes=900_000_000)


def timing(name: str, sides: Sequence[str], **arguments: Any) -> CaseTiming:
    return CaseTiming(
        sides={
            "keras": side(4.0, 5.0, 7.0),
            "annlib": side(0.5),
            "annlib-all": side(0.6),
            "sklearn": side(3.0, loss=0.6),
            "gemm": side(0.25, loss=None),
        },
        left_out={"jax": "not installed"},
    )


def scaling(**arguments: Any) -> Scaling:
    settings = {s for model in MODELS for s in [*weak(model), *strong(model)]}
    settings |= {Setting(model, 1, rows) for model in MODELS for rows in COMPUTE_ROWS}
    seconds = {s: 1e-4 * s.rows + 2e-3 * (s.num_workers - 1) for s in settings}
    sizes = [1024, *(gradient_bytes(model) for model in MODELS)]
    return Scaling(
        num_cores=2,
        steps={s: {"annlib": [seconds[s]], "bare": [seconds[s] / 2]} for s in settings},
        all_reduces={
            (side, p, n): [factor * (1e-4 * p + n * 1e-9)]
            for side, factor in (("annlib", 1), ("bare", 2))
            for p in (2, 4)
            for n in sizes
        },
        peak_memory_bytes={"annlib": 4_000_000_000, "keras": 5_000_000_000},
    )


def streaming(**arguments: Any) -> Any:
    def side(epoch_s: float, peak: int) -> StreamingTiming:
        return StreamingTiming(epoch_s=[epoch_s], loss=0.25, before_bytes=700_000_000, peak_bytes=peak)

    return {1000: {"in memory": side(0.5, 900_000_000), "streamed": side(0.625, 800_000_000)}}


@pytest.fixture(autouse=True)
def measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module.timing, "measure", timing)
    monkeypatch.setattr(run_module, "measure_scaling", scaling)
    monkeypatch.setattr(run_module, "measure_streaming", streaming)
    monkeypatch.setattr("annlib.benchmark.cases.data.load", found)


def found(*arguments: Any, **named: Any) -> Any:
    """A data set that is there, and is not looked at."""
    split = types.SimpleNamespace(x=np.zeros((2, 8)), y=np.zeros(2))
    return types.SimpleNamespace(train=split, validation=split)


def output(names: Sequence[str] | None, *, json_path: Path | None = None, plot_path: Path | None = None) -> str:
    console = Console(file=io.StringIO(), width=160)
    run(names, rounds=1, data_dir=None, json_path=json_path, plot_path=plot_path, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_has_median_range_ratio_start_and_memory() -> None:
    lines = output(["fashion-mnist"]).splitlines()
    (keras,) = [line for line in lines if "keras.Model.fit" in line]
    assert [cell.strip() for cell in keras.split("│")[1:-1]] == [
        *("keras.Model.fit", "5,000", "-20% +40%", "1", "3.0", "1.00", "4.2", "900", "0.5000")
    ]
    (annlib,) = [line for line in lines if "annlib " in line and "included" not in line and "│" in line]
    assert [cell.strip() for cell in annlib.split("│")[2:5]] == ["500", "+0% +0%", "10"]


def test_what_is_not_installed_or_does_not_train_the_same_is_told() -> None:
    shown = output(["fashion-mnist"])
    assert "JAX lax.scan: not installed" in shown
    assert "the matrix products alone take 0.50 of annlib's epoch" in shown
    assert "callbacks and progress add 20% to it" in shown
    assert "scikit-learn does not train the same: its loss differs by more than 5%" in shown


def test_scaling_shows_steps_against_bare_all_reduces_and_memory() -> None:
    shown = " ".join(output(["scaling"]).split())
    reduce_s, step_s = 2e-4 + 4 * 266_610 * 1e-9, 1e-4 * 32 + 2e-3
    times = f"a step of annlib takes {step_s / (2 * reduce_s):.2f} times the bare all-reduce of its gradient's"
    assert f"{times} 1,066,440 bytes under TensorFlow's strategy as it comes ({2e3 * reduce_s:.2f} ms)" in shown
    assert f"{step_s / reduce_s:.2f} times that under annlib's ({1e3 * reduce_s:.2f} ms)" in shown
    assert "4 workers share 2 cores" in shown
    assert "annlib under the strategy 4,000 MB, plain Keras 5,000 MB" in shown
    assert "10 GbE" in shown


def test_everything_is_written(tmp_path: Path) -> None:
    json_path, plot_path = tmp_path / "figures.json", tmp_path / "plot.png"
    output(None, json_path=json_path, plot_path=plot_path)
    figures = json.loads(json_path.read_text())
    assert set(figures) == {*CASES, "scaling", "streaming"}
    assert figures["regressor"]["sides"]["annlib"]["epoch_s"] == [0.5]
    assert {step["num_workers"] for step in figures["scaling"]["steps"]} == {1, 2, 4}
    with Image.open(plot_path) as picture:
        assert picture.size == (4500, 3360)


def test_cases_without_data_are_left_out_unless_they_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **arguments: Any) -> Any:
        if name == "california-housing":
            raise DataError("no housing here")
        return found()

    monkeypatch.setattr("annlib.benchmark.cases.data.load", load)
    shown = output(None)
    assert "regressor is left out: no housing here" in shown
    assert "Fashion-MNIST 784-300-100-10" in shown
    with pytest.raises(DataError, match="no housing here"):
        output(["regressor"])


def test_a_file_that_cannot_be_written_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module.timing, "measure", lambda *args, **kwargs: pytest.fail("measured"))
    with pytest.raises(StorageError, match="expected a file in a writable directory"):
        output(["regressor"], json_path=tmp_path / "nowhere" / "figures.json")


def test_streamed_samples_have_speed_loss_and_memory(tmp_path: Path) -> None:
    text = output(["streaming"], json_path=tmp_path / "figures.json")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "streamed" in line]
    assert rows == [["1,000", "streamed", "1,600", "0.80", "0.25000", "700", "100"]]
    figures = json.loads((tmp_path / "figures.json").read_text())["streaming"]["1000"]
    assert figures["in memory"]["peak_bytes"] == 900_000_000
