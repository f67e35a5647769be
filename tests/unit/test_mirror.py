"""A directory is copied as it changes; an outage is borne, told once, and ends in one error when it lasts."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from annlib import mirror as mirror_module
from annlib.errors import StorageError
from annlib.mirror import Mirror
from annlib.storage import Remote


class FakeRemote(Remote):
    """Files in a dictionary, and an outage that a test switches on."""

    def __init__(self) -> None:
        self.uri = "s3://bucket/run"
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.is_away = False

    def _call(self, name: str) -> None:
        if self.is_away:
            raise OSError("AWS Error NETWORK_CONNECTION")
        self.calls.append(name)

    def list(self) -> dict[str, int]:
        self._call("list")
        return {name: len(content) for name, content in self.files.items()}

    def upload(self, local: Path, name: str) -> None:
        self._call(f"upload {name}")
        self.files[name] = local.read_bytes()

    def download(self, name: str, local: Path) -> None:
        self._call(f"download {name}")
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(self.files[name])

    def delete(self, name: str) -> None:
        self._call(f"delete {name}")
        self.files.pop(name, None)


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> FakeRemote:
    monkeypatch.setattr(mirror_module, "EVERY_S", 0.01)
    monkeypatch.setattr(mirror_module, "FIRST_WAIT_S", 0.01)
    return FakeRemote()


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def write_at_once(path: Path, text: str) -> None:
    """Writes a file that the mirror's thread never sees empty."""
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text)
    temporary.replace(path)


def test_what_changes_is_copied_once(tmp_path: Path, remote: FakeRemote) -> None:
    with Mirror(tmp_path, remote, timeout_s=5) as mirror:
        write_at_once(tmp_path / "a", "1")
        mirror.flush()
        mirror.flush()
        write_at_once(tmp_path / "a", "22")
        mirror.flush()
    assert remote.calls == ["upload a", "upload a"]
    assert remote.files == {"a": b"22"}


def test_what_says_that_a_run_is_finished_comes_last(tmp_path: Path, remote: FakeRemote) -> None:
    names = ["metrics.json", "pictures/p.png", "report.html", "checkpoints/e1/manifest.json", "checkpoints/e1/state"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    Mirror(tmp_path, remote, timeout_s=5).flush()
    assert remote.calls == [
        "upload checkpoints/e1/state",
        "upload pictures/p.png",
        "upload report.html",
        "upload checkpoints/e1/manifest.json",
        "upload metrics.json",
    ]


def test_the_thread_copies_by_itself(tmp_path: Path, remote: FakeRemote) -> None:
    with Mirror(tmp_path, remote, timeout_s=5):
        (tmp_path / "a").write_text("1")
        wait_until(lambda: "a" in remote.files)


def test_what_was_pulled_is_not_copied_back_and_vanishes_with_the_local_file(
    tmp_path: Path, remote: FakeRemote
) -> None:
    remote.files = {"checkpoints/e1/manifest.json": b"{}", "checkpoints/e1/state": b"s", "tensorboard/x": b"t"}
    with Mirror(tmp_path, remote, timeout_s=5) as mirror:
        mirror.pull(exclude=("tensorboard/",))
        mirror.flush()
        assert not any(call.startswith("upload") for call in remote.calls)
        assert not (tmp_path / "tensorboard").exists()
        for path in (tmp_path / "checkpoints/e1").iterdir():
            path.unlink()
    assert remote.calls[-2:] == ["delete checkpoints/e1/manifest.json", "delete checkpoints/e1/state"]
    assert remote.files == {"tensorboard/x": b"t"}


def test_an_outage_is_told_once_and_made_up_for(
    tmp_path: Path, remote: FakeRemote, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Mirror(tmp_path, remote, timeout_s=30) as mirror:
        remote.is_away = True
        (tmp_path / "a").write_text("1")
        wait_until(lambda: bool(caplog.records))
        mirror.check()
        remote.is_away = False
        wait_until(lambda: "a" in remote.files)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert messages[0] == "s3://bucket/run is away, training goes on: no answer"
    assert messages[1].startswith("s3://bucket/run is back after")


def test_an_outage_that_lasts_is_an_error(tmp_path: Path, remote: FakeRemote) -> None:
    remote.is_away = True
    (tmp_path / "a").write_text("1")
    mirror = Mirror(tmp_path, remote, timeout_s=0.1)
    with pytest.raises(StorageError, match=r"could not be written for .*received no answer.*--storage-timeout-s"):
        mirror.flush()
    with pytest.raises(StorageError, match="could not be written"):
        mirror.check()


def test_after_an_error_the_log_is_copied(tmp_path: Path, remote: FakeRemote) -> None:
    def fail() -> None:
        with Mirror(tmp_path, remote, timeout_s=5):
            (tmp_path / "run.log").write_text("why")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert remote.files == {"run.log": b"why"}
