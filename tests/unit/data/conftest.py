"""Small raw data that a test can damage, and a web server on this machine that serves it."""

import gzip
import hashlib
import io
import os
import struct
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from annlib.data import sources
from annlib.data.idx import IdxFormat
from annlib.data.raw import RawData, RawFile
from annlib.data.table import TableFormat
from annlib.errors import DataError

Answer = bytes | Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Server:
    """What the web server answers, by path, and which paths it was asked for."""

    url: str
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append(self.path)
            answer = state.answers.get(self.path)
            if answer is None:
                self.send_error(404)
            elif callable(answer):
                answer(self)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(url=f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "cache"
    monkeypatch.setenv("ANNLIB_CACHE_DIR", str(directory))
    return directory


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(f">{1 + values.ndim}I", 0x0800 | values.ndim, *values.shape) + values.tobytes()


@dataclass(frozen=True, kw_only=True)
class SmallData:
    """A data set of four small IDX files, complete with its true arrays and the bytes of the compressed files."""

    data: RawData
    arrays: dict[str, np.ndarray]
    contents: dict[str, bytes]

    def write(self, directory: Path) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in self.contents.items():
            (directory / name).write_bytes(content)
        return directory

    def serve(self, server: Server) -> None:
        server.answers |= {f"/{name}": content for name, content in self.contents.items()}

    def assert_equal(self, arrays: dict[str, np.ndarray]) -> None:
        assert arrays.keys() == self.arrays.keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, self.arrays[key], strict=True)


@pytest.fixture
def small(tmp_path: Path, server: Server, cache_dir: Path) -> SmallData:
    generator = np.random.default_rng(0)
    arrays = {
        "train_images": generator.integers(0, 256, (60, 28, 28), dtype=np.uint8),
        "train_labels": generator.integers(0, 10, 60, dtype=np.uint8),
        "test_images": generator.integers(0, 256, (10, 28, 28), dtype=np.uint8),
        "test_labels": generator.integers(0, 10, 10, dtype=np.uint8),
    }
    files, contents = {}, {}
    for key, array in arrays.items():
        name, content = f"{key}-idx", idx_bytes(array)
        contents[f"{name}.gz"] = gzip.compress(content)
        files[key] = RawFile(
            names=(name, f"{name}.gz"),
            download_name=f"{name}.gz",
            url=f"{server.url}/{name}.gz",
            format=IdxFormat(
                shape=array.shape,
                sha256=hashlib.sha256(content).hexdigest(),
                maximum=9 if array.ndim == 1 else 255,
            ),
        )
    data = RawData(
        name="small",
        files=files,
        system_dir=tmp_path / "system",
        system_install="apt-get install dataset-small",
    )
    return SmallData(data=data, arrays=arrays, contents=contents)


TABLE_TEXT = b"1.5,2\r\n3,-4e2\r\n5,6"


@pytest.fixture
def table_format() -> TableFormat:
    values = np.array([[1.5, 2.0], [3.0, -400.0], [5.0, 6.0]])
    return TableFormat(
        shape=(3, 2), sha256=hashlib.sha256(values.tobytes()).hexdigest(), member="Table/table.data", limit_bytes=20_000
    )


@pytest.fixture
def table_text() -> bytes:
    return TABLE_TEXT


@pytest.fixture
def archive() -> Callable[[str, bytes], bytes]:
    """A function (name of the entry, content) -> the bytes of a tar.gz."""

    def build(name: str, content: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as file:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    return build


@pytest.fixture
def message_of() -> Callable[..., str]:
    """A function (data, data_dir=...) -> the message of the DataError that `read` raises, which is one line."""

    def call(data: RawData, **arguments: Path) -> str:
        with pytest.raises(DataError) as error:
            sources.read(data, **arguments)
        message = str(error.value)
        assert len(message.splitlines()) == 1
        assert "expected" in message
        assert "received" in message
        return message

    return call


@pytest.fixture
def user_dir(small, tmp_path):
    return small.write(tmp_path / "mine")


@pytest.fixture
def unprivileged_dir():
    """A directory for which permissions count, also where the tests run as root."""
    directory = Path(tempfile.mkdtemp())
    try:
        if os.geteuid() == 0:
            os.chown(directory, 65534, 65534)
            os.seteuid(65534)
        yield directory
    finally:
        if os.getuid() == 0:
            os.seteuid(0)
        for path in (directory, *directory.rglob("*")):
            path.chmod(0o700)
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        directory.rmdir()
