"""The user hears of storage that is away, once when it goes and once when it is back."""

import pytest

from annlib.training.storage_news import storage_news
from annlib.training.storage_patience import StoragePatience


def full() -> None:
    raise OSError(28, "No space left on device", "/x/epoch-00001")


def test_the_storage_goes_and_comes_back() -> None:
    told: list[str] = []
    storage = StoragePatience(10.0)
    with storage_news(told.append):
        assert not storage.attempt(full)
        assert not storage.attempt(full)
        assert storage.attempt(lambda: None)
    gone, back = told
    assert gone == (
        "the storage cannot be written, training goes on without it: [Errno 28] No space left on device: "
        "'/x/epoch-00001'"
    )
    assert back == "the storage is back after 0 s"
    assert not storage.attempt(full)
    assert len(told) == 2, "told after the end"


def test_a_listener_that_fails_does_not_end_the_training(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(line: str) -> None:
        raise ConnectionError(line)

    with storage_news(fail):
        assert not StoragePatience(10.0).attempt(full)
    assert "ConnectionError: the storage cannot be written" in capsys.readouterr().err
