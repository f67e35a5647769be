"""The copy of a run that a process of a run on an object store works in."""

import os
from pathlib import Path

import pytest

from annlib.training.run_storage import LEFT_AFTER_S, _own_directory


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
