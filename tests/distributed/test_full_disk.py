"""A disk that fills up or goes away while training: one clear error, and the checkpoints before it stay whole."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_runs import assert_same, errors_of, finish, start, wait_for


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system cannot be mounted here: it needs root")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path) -> Path:
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    return path


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["first-epoch", "checkpoint", "evaluation", "last-epoch"])
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_full_disk_is_one_error_and_loses_nothing(
    disk: Path, undisturbed: Path, moment: str, num_workers: str
) -> None:
    flags = ["--num-workers", num_workers]
    process = start(disk, "wait", moment, *flags, "--storage-timeout-s", "2")
    try:
        wait_for((disk / "marker").exists, "the fault's moment")
        before = {path.name for path in (disk / "run/checkpoints").glob("epoch-*")}
        filler = fill(disk)
        (disk / "marker").unlink()
        _, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    assert process.returncode == 2, errors
    assert len(errors_of(errors)) == 1, errors
    assert "the storage could not be written for" in errors
    assert "No space left on device" in errors
    assert not list((disk / "run/checkpoints").glob(".*")), "something half-written stayed"
    assert before <= {path.name for path in (disk / "run/checkpoints").glob("epoch-*")}
    filler.unlink()
    out = finish(start(disk, "none", "never", *flags))
    if before:
        assert "resuming after epoch" in out
    assert_same(disk / "run", undisturbed)


def test_a_disk_that_is_full_already_is_one_error_before_training(disk: Path) -> None:
    fill(disk)
    process = start(disk, "none", "never")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert len(errors_of(errors)) == 1, errors
    assert "No space left on device" in errors


@pytest.mark.slow
def test_the_disk_is_freed_in_time(disk: Path, undisturbed: Path) -> None:
    process = start(disk, "wait", "last-epoch", "--storage-timeout-s", "60")
    try:
        wait_for((disk / "marker").exists, "the fault's moment")
        filler = fill(disk)
        (disk / "marker").unlink()
        time.sleep(3)
        filler.unlink()
        finish(process)
    finally:
        process.kill()
    assert_same(disk / "run", undisturbed)
    assert shutil.disk_usage(disk).free > 0
    assert "the storage is back after" in (disk / "run/run.log").read_text()


def take_away(disk: Path) -> None:
    """Hides the disk, as a network file system that is not mounted any more: an empty directory, not to be written."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], check=True)


def give_back(disk: Path) -> None:
    subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_disk_that_comes_back_delays_a_checkpoint(
    disk: Path, undisturbed: Path, tmp_path: Path, num_workers: str
) -> None:
    marker = tmp_path / "marker"
    process = start(disk, "wait", "last-epoch", "--num-workers", num_workers, marker=marker)
    try:
        wait_for(marker.exists, "the fault's moment")
        take_away(disk)
        marker.unlink()
        time.sleep(5)
        give_back(disk)
        out = finish(process)
    finally:
        process.kill()
    assert_same(disk / "run", undisturbed)
    assert "the storage is back after" in (disk / "run/run.log").read_text()
    assert "the storage is back after" in out


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", ["0", "2"])
def test_a_disk_that_stays_away_is_one_error(disk: Path, undisturbed: Path, tmp_path: Path, num_workers: str) -> None:
    flags = ["--num-workers", num_workers]
    marker = tmp_path / "marker"
    process = start(disk, "wait", "last-epoch", *flags, "--storage-timeout-s", "2", marker=marker)
    try:
        wait_for(marker.exists, "the fault's moment")
        take_away(disk)
        marker.unlink()
        _, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    give_back(disk)
    assert process.returncode == 2, errors
    assert len(errors_of(errors)) == 1, errors
    assert "resuming after epoch" in finish(start(disk, "none", "never", *flags))
    assert_same(disk / "run", undisturbed)
