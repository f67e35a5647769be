import subprocess
import sys
from pathlib import Path

import pytest

from annlib.board import _Events, serve
from annlib.errors import StorageError


class Store:
    """Event files on an object store."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.downloads: list[str] = []

    def list(self) -> dict[str, int]:
        return {name: len(content) for name, content in self.files.items()}

    def download(self, name: str, local: Path) -> None:
        self.downloads.append(name)
        local.write_bytes(self.files[name])


def test_an_event_file_grows_in_place(tmp_path: Path) -> None:
    store = Store()
    name = "run/tensorboard/train/events.out.tfevents.1"
    store.files = {name: b"one", "run/model.keras": b"model"}
    events = _Events(store, tmp_path)  # type: ignore[arg-type]
    events.fetch()
    path = tmp_path / name
    # TensorBoard reads on in the file that it has opened.
    with path.open("rb") as opened:
        assert opened.read() == b"one"
        store.files[name] = b"one two"
        events.fetch()
        assert opened.read() == b" two"
    events.fetch()
    assert store.downloads == [name, name]
    assert [found.name for found in tmp_path.rglob("*tfevents*")] == [path.name]


def test_a_port_that_does_not_exist_is_one_line() -> None:
    board = Path(__file__).parents[2] / "jobs/board.py"
    done = subprocess.run(
        [sys.executable, board, "--port", "65536"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "argument --port: expected 0 to 65535, received '65536'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_store_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> dict[str, int]:
        raise OSError("AWS Error NETWORK_CONNECTION during ListObjectsV2")

    monkeypatch.setattr("annlib.storage.Remote.list", fail)
    with pytest.raises(StorageError, match=r"^s3://bucket/runs cannot be read: .* received no answer\."):
        serve("s3://bucket/runs", port=0)


def test_a_prefix_without_events_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("annlib.storage.Remote.list", lambda _: {"run/model.keras": 5})
    # What serves ends at once.
    monkeypatch.setattr("sys.executable", "/bin/true")
    assert serve("s3://bucket/runs", port=0) == 0
    assert capsys.readouterr().out == (
        "s3://bucket/runs holds no TensorBoard events yet: the page is empty until a run writes some.\n"
    )
