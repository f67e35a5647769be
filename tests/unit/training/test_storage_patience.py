"""Storage that is away delays writing, and ends the run when that lasts too long."""

import logging

import pytest

from annlib.errors import StorageError
from annlib.training import storage_patience
from annlib.training.storage_patience import StoragePatience


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(storage_patience.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(storage_patience.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def full() -> None:
    raise OSError(28, "No space left on device", "/x/epoch-00001")


def test_a_failure_is_borne_until_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    storage = StoragePatience(10.0)
    assert not storage.attempt(full)
    clock.sleep(9.9)
    assert not storage.attempt(full)
    clock.sleep(0.2)
    with pytest.raises(StorageError, match=r"for 10 s: .*/x/epoch-00001, received No space left.*--storage-timeout-s"):
        storage.attempt(full)


def test_a_success_ends_the_outage(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(monkeypatch)
    storage = StoragePatience(10.0)
    with caplog.at_level(logging.WARNING):
        assert not storage.attempt(full)
        clock.sleep(4)
        assert not storage.attempt(full)
        assert storage.attempt(lambda: None)
    assert [record.getMessage().split(",")[0].split(":")[0] for record in caplog.records] == [
        "the storage cannot be written",
        "the storage is back after 4 s",
    ]
    clock.sleep(20)
    assert not storage.attempt(full)


def test_insisting_waits_for_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    written = []

    def write() -> None:
        if clock.now < 105:
            full()
        written.append(clock.now)

    StoragePatience(10.0).insist(write)
    assert written == [pytest.approx(105, abs=storage_patience.RETRY_S)]
    with pytest.raises(StorageError):
        StoragePatience(10.0).insist(full)


def test_other_errors_are_not_the_storage() -> None:
    with pytest.raises(ZeroDivisionError):
        StoragePatience(10.0).attempt(lambda: 1 // 0)


def test_what_cannot_be_read_is_waited_for_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def stale() -> None:
        raise OSError(116, "Stale file handle", "/shared/run")

    with pytest.raises(StorageError, match=r"could not be read for .* expected to read /shared/run, received Stale"):
        StoragePatience(0.01, reads=True).insist(stale)
    assert "the storage cannot be read, training waits for it" in caplog.text
