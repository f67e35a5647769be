"""`jobs/train.py` as a user runs it, in this process' machine, without Ray."""

import csv
import gzip
import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import warm

ROOT = Path(__file__).resolve().parents[2]
FILES = {"config.yaml", "history.csv", "metrics.json", "model.keras", "checkpoints", "tensorboard", "run.log"}
FILES |= {
    "learning_curves.png",
    "pictures",
    "model_summary.txt",
    "test_predictions.npy",
    "signature.json",
    "report.html",
}


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "jobs/train.py"), *arguments]


def train(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return warm.run(ROOT / "jobs/train.py", *arguments, env=warm.environment(**variables))


def digits(storage: Path, name: str, epochs: int, *flags: str) -> subprocess.CompletedProcess[str]:
    return train("digits", "--storage", str(storage), "--name", name, "--epochs", str(epochs), *flags)


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open(newline="") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    return [{name: value for name, value in row.items() if name not in ("seconds", "samples_per_s")} for row in rows]


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def undisturbed(storage: Path) -> subprocess.CompletedProcess[str]:
    return digits(storage, "undisturbed", 4)


def test_a_run_leaves_all_its_files_and_names_its_directory_last(
    storage: Path, undisturbed: subprocess.CompletedProcess[str]
) -> None:
    assert undisturbed.returncode == 0
    assert undisturbed.stderr == ""
    assert undisturbed.stdout.splitlines()[0].startswith("epoch 1/4  loss ")
    assert undisturbed.stdout.splitlines()[-1] == str(storage / "undisturbed")
    assert {path.name for path in (storage / "undisturbed").iterdir()} == FILES
    checkpoints = {path.name for path in (storage / "undisturbed/checkpoints").iterdir()}
    assert checkpoints == {"epoch-00004", "best.keras", "best.json"}
    pictures = {path.stem for path in (storage / "undisturbed/pictures").iterdir()}
    assert pictures - {"model"} == {"confusion_matrix", "samples", "worst_mistakes"}
    assert list((storage / "undisturbed/tensorboard").rglob("events.out.tfevents.*"))


def test_the_curve_is_that_of_keras(storage: Path, undisturbed: subprocess.CompletedProcess[str]) -> None:
    import keras

    from annlib import data
    from annlib.config import load_config
    from annlib.data.batches import epoch_order
    from annlib.workloads import find

    workload = find("digits")
    config = load_config({"workload": "digits"}, defaults=workload.defaults, environment={})
    dataset = data.load("digits")
    keras.utils.set_random_seed(42)
    model = workload.build_model(dataset, config)
    for epoch, row in enumerate(history(storage / "undisturbed")):
        order = epoch_order(len(dataset.train), seed=42, epoch=epoch)
        fitted = model.fit(
            dataset.train.x[order],
            dataset.train.y[order],
            batch_size=32,
            shuffle=False,
            validation_data=(dataset.validation.x, dataset.validation.y),
            verbose=0,
        ).history
        for name, values in fitted.items():
            assert row[name] == pytest.approx(values[0], rel=1e-5), (epoch, name)


def test_the_metrics_say_what_the_run_was(storage: Path, undisturbed: subprocess.CompletedProcess[str]) -> None:
    metrics: dict[str, Any] = json.loads((storage / "undisturbed/metrics.json").read_text())
    assert set(metrics) == {
        *("train", "validation", "test", "seconds", "samples_per_s", "num_workers", "versions"),
        *("epochs", "stopped_early", "best", "peak_memory_bytes"),
    }
    # TensorFlow alone takes more than 100 MB; this machine has less than 100 TB.
    assert 1e8 < metrics["peak_memory_bytes"] < 1e14
    assert set(metrics["test"]) == {"loss", "sparse_categorical_accuracy"}
    assert metrics["num_workers"] == 0
    assert metrics["validation"]["loss"] == pytest.approx(history(storage / "undisturbed")[-1]["val_loss"], rel=1e-5)
    assert {"python", "tensorflow", "keras", "annlib"} <= set(metrics["versions"])


@pytest.mark.slow
def test_a_longer_run_that_died_before_its_end_is_finished_by_the_next_start(
    storage: Path, undisturbed: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    run = tmp_path / "longer"
    shutil.copytree(storage / "undisturbed", run)
    expected = json.loads((run / "metrics.json").read_text())
    # Those of three epochs: the fourth has been trained, and nothing came after it.
    (run / "metrics.json").write_text(json.dumps({**expected, "epochs": 3, "test": {"loss": 0.0}}))
    done = digits(tmp_path, "longer", 4)
    assert (done.returncode, done.stderr) == (0, "")
    assert "resuming after epoch 4" in done.stdout
    finished = json.loads((run / "metrics.json").read_text())
    assert (finished["epochs"], finished["test"]) == (4, expected["test"])


@pytest.mark.slow
def test_a_runs_own_configuration_is_a_whole_command(
    storage: Path, undisturbed: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    config = storage / "undisturbed/config.yaml"
    done = train("--config", str(config), "--storage", str(tmp_path), "--name", "again", "--epochs", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert history(tmp_path / "again") == history(storage / "undisturbed")[:1]


def test_the_same_name_says_that_the_run_is_finished(
    storage: Path, undisturbed: subprocess.CompletedProcess[str]
) -> None:
    before = (storage / "undisturbed/metrics.json").stat().st_mtime_ns
    done = digits(storage, "undisturbed", 4)
    assert done.returncode == 0
    assert "run undisturbed is finished: 4 epochs are done" in done.stdout
    assert done.stdout.splitlines()[-1] == str(storage / "undisturbed")
    assert (storage / "undisturbed/metrics.json").stat().st_mtime_ns == before


@pytest.mark.slow
def test_more_epochs_of_a_finished_run_equal_one_run(
    storage: Path, undisturbed: subprocess.CompletedProcess[str]
) -> None:
    assert digits(storage, "in_two", 2).returncode == 0
    done = digits(storage, "in_two", 4)
    assert done.returncode == 0
    assert "resuming after epoch 2" in done.stdout
    assert history(storage / "in_two") == history(storage / "undisturbed")


def test_other_hyperparameters_under_the_same_name_are_refused(
    storage: Path, undisturbed: subprocess.CompletedProcess[str]
) -> None:
    before = (storage / "undisturbed/config.yaml").read_bytes()
    done = digits(storage, "undisturbed", 6, "--learning-rate", "0.5")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "learning_rate=0.01" in done.stderr
    assert (storage / "undisturbed/config.yaml").read_bytes() == before


@pytest.mark.slow
def test_early_stopping_takes_the_best_epochs_weights(storage: Path) -> None:
    flags = ["--early-stopping-patience", "2", "--reduce-lr-patience", "1", "--learning-rate", "0.5"]
    done = digits(storage, "stopped_early", 100, *flags, "--formats", "keras,h5", "--histogram-freq", "1")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((storage / "stopped_early/metrics.json").read_text())
    rows = history(storage / "stopped_early")
    assert metrics["stopped_early"]
    said = f"stopped early after {len(rows)} epochs, with the weights of epoch {metrics['best']['epoch']}"
    assert said in done.stdout
    assert metrics["epochs"] == len(rows) < 100
    values = [row["val_loss"] for row in rows]
    assert metrics["best"] == {"epoch": values.index(min(values)) + 1, "val_loss": min(values)}
    assert metrics["validation"]["loss"] == pytest.approx(min(values), rel=1e-5)
    assert len({row["learning_rate"] for row in rows}) > 1
    assert (storage / "stopped_early/model.h5").exists()
    again = digits(storage, "stopped_early", 100, *flags)
    assert f"is finished: {len(rows)} epochs are done" in again.stdout


# Patience and best value have to survive a stop, for both callbacks act after the resume.
LONG_EPOCHS = 300
LONG = ["--learning-rate", "0.2", "--early-stopping-patience", "60", "--reduce-lr-patience", "25"]


@pytest.fixture(scope="module")
def long_run(storage: Path) -> Path:
    assert digits(storage, "long", LONG_EPOCHS, *LONG).returncode == 0
    rows = history(storage / "long")
    assert len(rows) < LONG_EPOCHS
    assert len({row["learning_rate"] for row in rows}) > 1
    return storage / "long"


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(storage: Path, long_run: Path, sent: signal.Signals) -> None:
    run = storage / sent.name
    arguments = ["digits", "--storage", str(storage), "--name", run.name, "--epochs", str(LONG_EPOCHS), *LONG]
    arguments += ["--checkpoint-every-s", "0.2"]
    process = subprocess.Popen(command(*arguments), env=warm.environment(), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(run.glob("checkpoints/epoch-*")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(sent)
        code = process.wait(timeout=60)
    finally:
        process.kill()
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[sent]
    assert list(run.glob("checkpoints/epoch-*/model.keras"))
    assert not (run / "metrics.json").exists()
    done = train(*arguments)
    assert done.returncode == 0
    assert "resuming after epoch" in done.stdout
    assert history(run) == history(long_run)
    metrics = [json.loads((each / "metrics.json").read_text()) for each in (run, long_run)]
    assert metrics[0]["test"] == metrics[1]["test"]


def test_a_loss_that_is_not_finite_is_one_line_and_exit_code_1(storage: Path) -> None:
    done = digits(storage, "nan", 3, "--learning-rate", "1e30")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "epoch 1 with learning rate 1e+30" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["digits", "--epochs", "-1"], ["epochs", "'-1'"]),
        (["digits", "--learning-rate", "nan"], ["learning_rate", "finite"]),
        (["digits", "--global-batch-size", "0"], ["global_batch_size"]),
        (["digits", "--num-workers", "-1"], ["num_workers"]),
        (["digits", "--epoch", "3"], ["unrecognized arguments: --epoch"]),
        (["digit"], ["did you mean digits?"]),
        ([], ["expected a workload"]),
        (["digits", "--config", "/none.yaml"], ["/none.yaml cannot be read"]),
        (["--config", "/none.yaml"], ["/none.yaml cannot be read"]),
        (["digits", "--monitor", "val_acc"], ["val_sparse_categorical_accuracy", "'val_acc'", "--monitor"]),
        (["digits", "--formats", "keras,onnx"], ["formats", "'onnx'"]),
        (["digits", "--early-stopping-patience", "0"], ["early_stopping_patience"]),
        (["digits", "--learning-rate-schedule", "cosine", "--reduce-lr-patience", "2"], ["schedule cosine"]),
        (["digits", "--name", "../up"], ["name", "'../up'"]),
        (["digits", "--use-gpu"], ["needs a GPU"]),
        (["fashion-mnist", "--data-dir", "/none"], ["/none"]),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path: Path, arguments: list[str], expected: list[str]) -> None:
    storage = tmp_path / "runs"
    done = train(*arguments, "--storage", str(storage))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for part in expected:
        assert part in done.stderr
    assert not storage.exists()


def test_a_storage_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = train("digits", "--storage", str(tmp_path / "file/runs"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written" in done.stderr


def test_a_truncated_data_file_is_one_line(tmp_path: Path) -> None:
    header = struct.pack(">HBBIII", 0, 8, 3, 60_000, 28, 28)
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(header + np.zeros(1000, np.uint8).tobytes())
    done = train("fashion-mnist", "--data-dir", str(tmp_path), "--storage", str(tmp_path / "runs"))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "train-images-idx3-ubyte" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_an_unknown_variable_is_one_line() -> None:
    done = train("digits", ANNLIB_EPOCS="3")
    assert done.returncode == 2
    assert "did you mean ANNLIB_EPOCHS?" in done.stderr


@pytest.mark.parametrize("flag", ["--help", "--list"])
def test_help_imports_neither_tensorflow_nor_ray(flag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "jobs/train.py"), flag],
        env=warm.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "annlib" in imported
    assert not imported & {"tensorflow", "keras", "ray", "pandas", "matplotlib", "sklearn"}
    assert "fashion-mnist" in done.stdout or "--epochs" in done.stdout


def test_a_local_run_imports_no_ray(tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['jobs/train.py', 'digits', '--epochs', '1', '--storage', {str(tmp_path)!r}]\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'jobs/train.py')!r}, run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert done.code == 0\n"
        "assert 'tensorflow' in sys.modules\n"
        "assert 'ray' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=warm.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
