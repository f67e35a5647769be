import os
import stat
from pathlib import Path

import pytest

from annlib.data.cache import cache_directory, store


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("ANNLIB_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")


def test_own_variable_comes_first(monkeypatch):
    monkeypatch.setenv("ANNLIB_CACHE_DIR", "/volume/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/volume/data")


def test_xdg_variable_comes_second(monkeypatch):
    monkeypatch.setenv("ANNLIB_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/annlib")


@pytest.mark.parametrize("xdg", ["", "relative"])
def test_home_comes_last(monkeypatch, xdg):
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    assert cache_directory() == Path("/home/someone/.cache/annlib")


def test_no_home_names_the_variable_to_set(monkeypatch):
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="ANNLIB_CACHE_DIR"):
        cache_directory()


def test_store_makes_the_directories_and_leaves_one_file(tmp_path):
    path = tmp_path / "a" / "b" / "file.gz"
    store(path, b"content")
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_store_replaces_what_is_there(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(b"damaged, and longer than what follows")
    store(path, b"content")
    assert path.read_bytes() == b"content"


def test_stored_file_is_readable_as_the_umask_allows(tmp_path):
    before = os.umask(0o022)
    try:
        store(tmp_path / "file.gz", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.gz").stat().st_mode) == 0o644


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append(f"fsync {os.fstat(fd).st_size}"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    store(tmp_path / "file.gz", b"content")
    assert events == ["fsync 7", "replace"]


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file.gz"
    path.write_bytes(b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store(path, b"content")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        store(tmp_path / "file" / "sub" / "x", b"content")
