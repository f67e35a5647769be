import json
import socket

import pytest

from annlib.training.loopback import is_on_loopback, keep_servers_to_loopback

pytestmark = pytest.mark.skipif(not hasattr(socket, "SO_BINDTODEVICE"), reason="Linux alone binds sockets to devices")


def device(server: socket.socket) -> bytes:
    return server.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0")


@pytest.mark.parametrize(
    ("family", "address", "expected"),
    [
        (socket.AF_INET, "0.0.0.0", b"lo"),
        (socket.AF_INET6, "::", b"lo"),
        (socket.AF_INET, "127.0.0.1", b""),
    ],
)
def test_a_server_on_all_interfaces_answers_by_loopback_alone(
    family: socket.AddressFamily, address: str, expected: bytes
) -> None:
    with socket.create_server((address, 0), family=family) as server:
        keep_servers_to_loopback()
        assert device(server) == expected
        host = "127.0.0.1" if family == socket.AF_INET else "::1"
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()


def test_what_listens_to_nobody_stays_as_it_is() -> None:
    with socket.socket() as client:
        client.bind(("0.0.0.0", 0))
        keep_servers_to_loopback()
        assert device(client) == b""


@pytest.mark.parametrize(
    ("workers", "expected"),
    [(["127.0.0.1:1", "127.0.0.1:2"], True), (["[::1]:1"], True), (["127.0.0.1:1", "10.0.0.2:2"], False), ([], False)],
)
def test_workers_of_one_machine_are_told_by_their_addresses(
    monkeypatch: pytest.MonkeyPatch, workers: list[str], expected: bool
) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": workers}}))
    assert is_on_loopback() == expected
