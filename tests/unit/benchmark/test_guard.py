import io
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from annlib.benchmark import guard as guard_module
from annlib.benchmark.guard import guard
from annlib.benchmark.timing import CaseTiming, SideTiming, Start
from annlib.errors import ConfigError, DataError

RECORDED = {
    "tolerances": {"speed": 0.25, "speed, all included": 0.25, "memory": 0.1},
    "ratios": {"regressor": {"speed": 100.0, "speed, all included": 50.0, "memory": 0.9}},
}


def side(*epoch_s: float, peak: int = 9) -> SideTiming:
    start = Start(import_s=1, build_s=1, first_call_s=1, loss=0.5)
    return SideTiming(start=start, compile_s=0.5, epochs=1, epoch_s=list(epoch_s), peak_memory_bytes=peak)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds an epoch of annlib, one for each time that it is measured, the last one for all that follow."""
    seconds = [0.01]

    def measure(name: str, sides: Sequence[str], **arguments: Any) -> CaseTiming:
        annlib_s = seconds.pop(0) if len(seconds) > 1 else seconds[0]
        return CaseTiming(
            sides={"keras": side(1.0), "annlib": side(annlib_s, peak=10), "annlib-all": side(0.02)}, left_out={}
        )

    monkeypatch.setattr(guard_module.timing, "measure", measure)
    monkeypatch.setattr(guard_module, "names_with_data", lambda names, *args, **kwargs: list(names))
    return seconds


def run(path: Path, *, record: bool = False) -> tuple[int, str]:
    console = Console(file=io.StringIO(), width=120)
    code = guard(["regressor"], path, rounds=1, data_dir=None, record=record, console=console)
    assert isinstance(console.file, io.StringIO)
    return code, console.file.getvalue()


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(RECORDED))
    return path


def test_the_same_ratios_pass(measured: list[float], recorded: Path) -> None:
    code, output = run(recorded)
    assert code == 0
    assert "nothing is worse" in output


def test_noise_within_the_tolerance_passes(measured: list[float], recorded: Path) -> None:
    measured[:] = [1 / 76]
    assert run(recorded)[0] == 0


def test_what_is_worse_twice_is_told_with_its_change(measured: list[float], recorded: Path) -> None:
    measured[:] = [0.02]
    code, output = run(recorded)
    assert code == 1
    assert "worse: regressor, speed: 50 times keras.Model.fit, recorded 100, -50%, tolerance 25%" in output
    assert "worse: regressor, memory" not in output


def test_what_is_worse_once_is_measured_again(measured: list[float], recorded: Path) -> None:
    measured[:] = [0.02, 0.01]
    code, output = run(recorded)
    assert code == 0
    assert "regressor looks worse: measured again" in output


def test_what_is_better_is_shown_and_passes(measured: list[float], recorded: Path) -> None:
    measured[:] = [0.005]
    code, output = run(recorded)
    assert code == 0
    assert "+100%" in output
    assert "better" in output


def test_more_memory_is_worse(measured: list[float], recorded: Path) -> None:
    content = json.loads(json.dumps(RECORDED))
    content["ratios"]["regressor"]["memory"] = 1.2
    recorded.write_text(json.dumps(content))
    code, output = run(recorded)
    assert code == 1
    assert "worse: regressor, memory: 0.9 times keras.Model.fit, recorded 1.2, -25%, tolerance 10%" in output


def test_recording_keeps_tolerances_and_other_cases(measured: list[float], recorded: Path) -> None:
    content = json.loads(json.dumps(RECORDED))
    content["tolerances"]["speed"] = 0.5
    content["ratios"]["fashion-mnist"] = {"speed": 6.0}
    recorded.write_text(json.dumps(content))
    measured[:] = [0.02]
    assert run(recorded, record=True)[0] == 0
    content["ratios"]["regressor"] = {"speed": 50.0, "speed, all included": 50.0, "memory": 0.9}
    assert json.loads(recorded.read_text()) == content
    assert run(recorded)[0] == 0


def test_recording_makes_the_file(measured: list[float], tmp_path: Path) -> None:
    path = tmp_path / "new.json"
    assert run(path, record=True)[0] == 0
    assert run(path)[0] == 0


@pytest.mark.parametrize("content", [None, "", "[]", '{"ratios": {}}', '{"ratios": {}, "tolerances": []}'])
def test_a_file_that_is_no_record_is_refused(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"cannot be read: expected the JSON file that --record writes"):
        run(path)


def test_a_named_case_without_data_is_refused(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, **arguments: Any) -> Any:
        raise DataError("no data")

    monkeypatch.setattr("annlib.benchmark.cases.data.load", load)
    with pytest.raises(DataError, match="no data"):
        run(recorded)


def test_ratios_are_those_of_medians() -> None:
    case = CaseTiming(
        sides={"keras": side(3.0, 1.0, 9.0), "annlib": side(0.5, 7.0, 0.1), "gemm": side(0.2), "annlib-all": side(0.6)},
        left_out={},
    )
    assert case.speed("annlib") == statistics.median([3.0, 1.0, 9.0]) / 0.5
    assert case.gemm_share == pytest.approx(0.4)
    assert case.extras_share == pytest.approx(0.2)


def test_a_side_that_trains_something_else_is_found() -> None:
    other = side(1.0)
    other.start.loss = 0.53
    without = side(1.0)
    without.start.loss = None
    case = CaseTiming(sides={"keras": side(1.0), "annlib": side(1.0), "jax": other, "gemm": without}, left_out={})
    assert case.other_losses() == ["jax"]
