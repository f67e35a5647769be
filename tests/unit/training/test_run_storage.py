"""The copy of a run that a process of a run on an object store works in."""

import errno
import os
from pathlib import Path

import pytest

from annlib.config import RunConfig, load_config
from annlib.errors import StorageError
from annlib.training.run_storage import LEFT_AFTER_S, _own_directory, errors_of_storage
from annlib.workloads import find


def age(path: Path) -> None:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 2 * LEFT_AFTER_S))


def test_it_goes_with_the_process_and_those_of_killed_ones_go_with_the_next(tmp_path: Path) -> None:
    left, young, other = (tmp_path / name for name in ("annlib-7-a", "annlib-8-b", "annlib-ray-x"))
    for path in (left, young, other):
        (path / "run").mkdir(parents=True)
    age(left)
    age(other)
    with _own_directory(tmp_path / "annlib-9-c"):
        assert {path.name for path in tmp_path.iterdir()} == {"annlib-8-b", "annlib-9-c", "annlib-ray-x"}
        assert (tmp_path / "annlib-9-c").stat().st_mode & 0o777 == 0o700
        age(tmp_path / "annlib-9-c")
        with _own_directory(tmp_path / "annlib-10-d"):
            assert (tmp_path / "annlib-9-c").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"annlib-8-b", "annlib-ray-x"}


def test_it_goes_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _own_directory(tmp_path / "annlib-9-c"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    given = {"workload": "digits", "storage": tmp_path, "name": "run"}
    return load_config(given, defaults=find("digits").defaults, environment={})


# A write has no file name.
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_file_system_that_went_away_is_one_line(config: RunConfig, number: int) -> None:
    reason = f"the storage {config.location} failed: .* received {os.strerror(number)}"
    with pytest.raises(StorageError, match=reason), errors_of_storage(config):
        raise OSError(number, os.strerror(number))


def test_an_error_of_the_runs_files_is_one_line_and_that_of_others_is_none(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="received Permission denied"), errors_of_storage(config):
        raise PermissionError(errno.EACCES, "Permission denied", str(config.run_path / "metrics.json"))
    with pytest.raises(PermissionError), errors_of_storage(config):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "other"))
