"""The run directory: whole files or none, nothing left behind on a storage that cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from annlib.artifacts import RunDirectory, write_atomically
from annlib.errors import StorageError


def test_an_atomic_write_replaces_the_content_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_keeps_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"one")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"two")
    assert path.read_bytes() == b"one"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    (run.checkpoints / ".epoch-00001.0f.tmp").mkdir(parents=True)
    (run.checkpoints / "epoch-00001").mkdir()
    for name in ("model.keras", ".model.keras.0f.tmp.keras", "checkpoints/.best.keras.0f.tmp.keras", ".shared"):
        (tmp_path / name).write_text("content")
    run.remove_leftovers()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"model.keras", ".shared", "checkpoints", "checkpoints/epoch-00001"}


def test_the_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.read_history() == []
    run.write_history([{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": 1e-12}])
    assert [float(row["loss"]) for row in run.read_history()] == [0.1 + 0.2, 1e-12]
    assert run.history.read_text().splitlines()[0] == "epoch,loss"


def test_a_file_in_the_way_is_a_clear_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="cannot be written: expected a writable directory"):
        RunDirectory(tmp_path / "file" / "run").create()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_leaves_no_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(StorageError, match="No space left on device"):
        RunDirectory(tmp_path / "run").create()
    assert not (tmp_path / "run").exists()


def test_damaged_metrics_are_a_clear_error(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.read_metrics() is None
    for content in ("{", "[]"):
        run.metrics.write_text(content)
        with pytest.raises(StorageError, match="Remove it to finish the run again"):
            run.read_metrics()


def test_a_history_with_bytes_that_are_no_text_is_read(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.history.write_bytes(b"epoch,loss\n1,0.5\n2,\xff\n")
    assert [row["epoch"] for row in run.read_history()] == ["1", "2"]


@pytest.mark.parametrize("location", ["{tmp_path}", "s3://bucket/runs/name"])
def test_one_process_at_a_time_trains_a_run(tmp_path: Path, location: str) -> None:
    location = location.format(tmp_path=tmp_path)
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    # Of a run on an object store each process has a copy.
    ours, theirs = (tmp_path / name if "://" in location else tmp_path for name in ("here", "there"))
    with RunDirectory(ours).claim(location):
        other = (
            "import sys; from pathlib import Path; from annlib.artifacts import RunDirectory\n"
            "with RunDirectory(Path(sys.argv[1])).claim(sys.argv[2]): pass"
        )
        command = [sys.executable, "-c", other, theirs, location]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert f"StorageError: the run {location} is in use: expected no other process" in done.stderr
    # It ends with the process that has it, also where that is killed.
    killed = other.replace(": pass", ": import os; os.kill(os.getpid(), 9)")
    assert subprocess.run([sys.executable, "-c", killed, theirs, location], check=False).returncode == -9
    with RunDirectory(ours).claim(location):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"here", "there"}


def test_the_history_of_other_metrics_keeps_its_columns(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_history([{"epoch": 1, "loss": 2.0, "mae": 1.0}, {"epoch": 2, "loss": 1.0, "mape": 3.0}])
    assert run.read_history() == [
        {"epoch": "1", "loss": "2.0", "mape": "", "mae": "1.0"},
        {"epoch": "2", "loss": "1.0", "mape": "3.0", "mae": ""},
    ]
