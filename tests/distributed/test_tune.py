"""`jobs/tune.py` on a real Ray cluster of its own: killed, it goes on, and its best configuration trains again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

# Searches take minutes.
pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
SPACE = "optimizer: {choice: [adam, nadam]}\nlearning_rate: {log_uniform: [1e-3, 1e-2]}\n"
NUM_TRIALS = 8
NAME = "sparse_categorical_accuracy"


def command(job: str, storage: Path, name: str, *flags: object) -> subprocess.Popen[str]:
    words = [sys.executable, str(ROOT / f"jobs/{job}.py"), "digits", "--storage", storage, "--name", name, *flags]
    environment = {**os.environ, "RAY_ADDRESS": "local", "CUDA_VISIBLE_DEVICES": "-1"}
    return subprocess.Popen(
        list(map(str, words)), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def tune(storage: Path, name: str, *flags: object) -> subprocess.Popen[str]:
    (storage / "space.yaml").write_text(SPACE)
    common = ["--num-trials", NUM_TRIALS, "--epochs", 12, "--space", storage / "space.yaml"]
    return command("tune", storage, name, *common, *flags)


def wait_for_trials(process: subprocess.Popen[str], count: int) -> list[str]:
    """Returns the lines up to the one of the trial that ended as the `count`-th."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(f"[{count}/"):
            return lines
    pytest.fail("".join(lines) + (process.stderr.read() if process.stderr else ""))


def records(search: Path) -> dict[str, tuple[int, str]]:
    """Returns when each trial that has ended wrote its record, and the record."""
    return {path.parent.name: (path.stat().st_mtime_ns, path.read_text()) for path in search.glob("trial-*/trial.json")}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that was killed after two trials, interrupted after two more, and finished."""
    storage = tmp_path_factory.mktemp("runs")
    killed = tune(storage, "search")
    wait_for_trials(killed, 2)
    killed.kill()
    killed.communicate()
    time.sleep(3)  # until Ray's processes have missed it
    after_kill = records(storage / "search")
    assert len(after_kill) >= 2

    interrupted = tune(storage, "search")
    wait_for_trials(interrupted, len(after_kill) + 1)
    interrupted.send_signal(signal.SIGTERM)
    output, errors = interrupted.communicate(timeout=120)
    assert (interrupted.returncode, errors) == (143, ""), output
    assert "best so far: " in output
    assert f"the same command with --name search goes on\n{storage / 'search'}\n" in output
    after_interruption = records(storage / "search")

    finished = tune(storage, "search")
    output, errors = finished.communicate(timeout=300)
    assert (finished.returncode, errors) == (0, ""), output
    (storage / "output.txt").write_text(output)
    after_all = records(storage / "search")
    assert len(after_all) == NUM_TRIALS
    for before in (after_kill, after_interruption):
        assert {name: after_all[name] for name in before} == before
    return storage


def test_the_search_ends_with_all_trials_and_the_comparison(storage: Path) -> None:
    output = (storage / "output.txt").read_text()
    assert sum(line.startswith("[") for line in output.splitlines()) == NUM_TRIALS
    results = json.loads((storage / "search/results.json").read_text())
    scores = {trial["number"]: list(trial["scores"].values())[-1] for trial in results["trials"]}
    best, own = results["best"], results["trials"][0]
    assert own["state"] == "finished"
    assert scores[best] > scores[0]
    assert f"better by {scores[best] - scores[0]:.4f}" in output
    on_test = {int(number): metrics[NAME] for number, metrics in results["test"].items()}
    assert on_test.keys() == {0, best}
    assert f"{on_test[best]:.4f} (trial {best}), the workload's own configuration {on_test[0]:.4f}" in output


def test_the_best_configuration_trains_to_the_same_model(storage: Path) -> None:
    best = json.loads((storage / "search/results.json").read_text())["best"]
    again = command("train", storage, "again", "--config", storage / "search/best.yaml")
    output, errors = again.communicate(timeout=120)
    assert (again.returncode, errors) == (0, ""), output
    trial = json.loads((storage / f"search/trial-{best:03d}/metrics.json").read_text())
    run = json.loads((storage / "again/metrics.json").read_text())
    # More threads sum in another order.
    assert run["validation"] == pytest.approx(trial["validation"], rel=1e-2)
    assert yaml.safe_load((storage / "again/config.yaml").read_text())["optimizer"] in ("adam", "nadam")


def test_a_finished_search_is_shown_again_and_trains_nothing(storage: Path) -> None:
    before = records(storage / "search")
    again = tune(storage, "search")
    output, errors = again.communicate(timeout=120)
    assert (again.returncode, errors) == (0, "")
    assert records(storage / "search") == before
    assert output.splitlines()[-4:] == (storage / "output.txt").read_text().splitlines()[-4:]


def test_every_trial_failing_is_one_error(storage: Path) -> None:
    space = storage / "huge.yaml"
    space.write_text("learning_rate: {uniform: [1e30, 2e30]}\n")
    file = storage / "base.yaml"
    file.write_text("learning_rate: 1e30\n")
    failing = command(
        "tune", storage, "failing", "--num-trials", 3, "--epochs", 2, "--space", space, "--config", file,
        "--trials-per-process", 2, "--concurrency", 1,
    )  # fmt: skip
    output, errors = failing.communicate(timeout=200)
    assert failing.returncode == 1
    assert errors.count("\n") == 1
    assert "all 3 trials failed" in errors
    assert "the loss became" in errors
    assert output.count(" failed after ") == 3
    processes = [json.loads(text)["process"] for _, text in records(storage / "failing").values()]
    assert sorted(Counter(processes).values()) == [1, 2]


def test_a_cluster_that_is_too_small_is_one_line(storage: Path) -> None:
    small = tune(storage, "small", "--concurrency", 999)
    output, errors = small.communicate(timeout=100)
    assert (small.returncode, output, errors.count("\n")) == (2, "", 1)
    assert "999 workers need 999. Give a smaller --concurrency" in errors
    assert not (storage / "small").exists()
