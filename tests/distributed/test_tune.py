"""`jobs/tune.py` on a real Ray cluster of its own: killed, it goes on, and its best configuration trains again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

# Searches take minutes.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SPACE = "optimizer: {choice: [adam, nadam]}\nlearning_rate: {log_uniform: [1e-3, 1e-2]}\n"
NUM_TRIALS = 8
NAME = "sparse_categorical_accuracy"


def command(job: str, storage: Path, name: str, *flags: object, workload: str = "digits") -> subprocess.Popen[str]:
    words = [sys.executable, str(ROOT / f"jobs/{job}.py"), workload, "--storage", storage, "--name", name, *flags]
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


def test_a_process_that_hangs_is_replaced(tmp_path: Path, storage: Path) -> None:
    process = tune(tmp_path, "search", "--worker-timeout-s", 8)
    wait_for_trials(process, 2)
    # It goes on with another trial.
    record = json.loads(next(iter(records(tmp_path / "search").values()))[1])
    hung = int(record["process"].rpartition(":")[2])
    os.kill(hung, signal.SIGSTOP)
    output, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, ""), output
    assert not Path(f"/proc/{hung}").exists()
    assert "its process has not answered for" in (tmp_path / "search" / "search.log").read_text()
    assert len(records(tmp_path / "search")) == NUM_TRIALS
    # Trials that went on elsewhere end as those that were left alone.
    for trial in range(NUM_TRIALS):
        ours, theirs = (pd.read_csv(each / f"search/trial-{trial:03d}/history.csv") for each in (tmp_path, storage))
        epochs = min(len(ours), len(theirs))
        columns = ["loss", f"val_{NAME}"]
        np.testing.assert_allclose(ours[columns][:epochs], theirs[columns][:epochs], rtol=1e-6)


def test_a_cluster_that_is_too_small_is_one_line(storage: Path) -> None:
    small = tune(storage, "small", "--concurrency", 999)
    output, errors = small.communicate(timeout=100)
    assert (small.returncode, output, errors.count("\n")) == (2, "", 1)
    assert "999 workers need 999. Give a smaller --concurrency" in errors
    assert not (storage / "small").exists()


def test_a_table_of_the_users_own(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    size, city = generator.normal(80, 20, 600), generator.choice(["Paris", "Rome"], 600)
    wanted = np.where(size + 15 * (city == "Rome") > 85, "yes", "no")
    table = tmp_path / "flats.csv"
    pd.DataFrame({"size": size, "city": city, "wanted": wanted}).to_csv(table, index=False)
    flags = ["--data", table, "--target", "wanted", "--model", "wide-deep"]
    metric = ["--metric", "val_binary_accuracy"]
    searched = command("tune", tmp_path, "search", *flags, *metric, "--num-trials", 3, "--epochs", 4, workload="table")
    output, errors = searched.communicate(timeout=300)
    assert (searched.returncode, errors) == (0, ""), output
    assert output.startswith("binary of wanted: 2 different values")
    best = yaml.safe_load((tmp_path / "search/best.yaml").read_text())
    assert (best["target"], best["model"]) == (["wanted"], "wide-deep")

    trained = command("train", tmp_path, "best", "--config", tmp_path / "search/best.yaml", workload="table")
    output, errors = trained.communicate(timeout=120)
    assert (trained.returncode, errors) == (0, ""), output
    found = json.loads((tmp_path / "search/results.json").read_text())
    scores = {trial["number"]: trial["scores"] for trial in found["trials"]}
    metrics = json.loads((tmp_path / "best/metrics.json").read_text())
    assert metrics["validation"]["binary_accuracy"] == pytest.approx(scores[found["best"]]["4"], abs=0.02)


def test_a_metric_that_the_tables_target_does_not_have_is_one_line(tmp_path: Path) -> None:
    table = tmp_path / "flats.csv"
    pd.DataFrame({"size": np.arange(100), "price": np.arange(100) % 7 * 1.5}).to_csv(table, index=False)
    flags = ["--data", table, "--target", "price", "--metric", "val_binary_accuracy"]
    searched = command("tune", tmp_path, "search", *flags, workload="table")
    _, errors = searched.communicate(timeout=120)
    assert searched.returncode == 2
    assert errors.splitlines() == [
        "error: metric is unknown: expected one of val_loss, val_root_mean_squared_error, val_mae, received "
        "'val_binary_accuracy'. Correct --metric."
    ]
    assert not (tmp_path / "search").exists()
