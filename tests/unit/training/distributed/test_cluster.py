import os
import signal
import socket
import sys
import time
from unittest import mock

import pytest
import ray
from ray._private import services
from ray.exceptions import AuthenticationError

from annlib.errors import ClusterError
from annlib.training.distributed.cluster import _initialize


@pytest.mark.parametrize(
    ("error", "received"), [(ConnectionError("x"), "no answer"), (AuthenticationError("y"), "no token here")]
)
def test_a_cluster_that_lets_nobody_in_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, received: str
) -> None:
    def init(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: mock.MagicMock())
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ClusterError, match=rf"^no Ray cluster answers at head:6379: expected .* received {received}\."):
        _initialize()


def test_a_cluster_of_another_version_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.7")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: mock.MagicMock())
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(ClusterError, match=r"^the Ray cluster head:6379 does not fit: .* Ray: 2\.50\.0 Python: 3"):
        _initialize()


@pytest.mark.parametrize(
    ("error", "received"),
    [(ConnectionError("Failed to connect"), "no answer"), (AuthenticationError("y"), "no token here")],
)
def test_no_cluster_of_its_own_takes_the_place_of_one_that_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch, error: Exception, received: str
) -> None:
    addresses = []

    def init(*, address: str, **_: object) -> None:
        addresses.append(address)
        raise error

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: {"10.0.0.1:6379"})
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: "10.0.0.1:6379")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: mock.MagicMock())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ClusterError, match=rf"does not let this command in: .* received {received}\. .*=local"):
        _initialize()
    assert addresses == ["10.0.0.1:6379"]


@pytest.mark.parametrize(
    ("running", "started", "expected"),
    [
        (set(), None, "local"),
        # Of a cluster that has ended.
        (set(), "10.0.0.1:6379", "local"),
        # Of another command, with which it ends.
        ({"127.0.0.1:40001"}, None, "local"),
        ({"127.0.0.1:40001"}, "127.0.0.1:6379", "local"),
        ({"127.0.0.1:40001", "127.0.0.1:6379"}, "127.0.0.1:6379", "127.0.0.1:6379"),
        ({"127.0.0.1:40001", "10.0.0.1:6379", "10.0.0.1:7000"}, "10.0.0.1:7000", "10.0.0.1:7000"),
        # `ray start --temp-dir` keeps its address elsewhere.
        ({"127.0.0.1:40001", "10.0.0.1:6379"}, None, "10.0.0.1:6379"),
    ],
)
def test_the_ray_that_was_started_for_others_is_joined_else_one_of_its_own(
    monkeypatch: pytest.MonkeyPatch, running: set[str], started: str | None, expected: str
) -> None:
    addresses = []
    monkeypatch.setattr(ray, "init", lambda *, address, **_: addresses.append(address))
    monkeypatch.setattr(services, "find_gcs_addresses", lambda: running)
    monkeypatch.setattr(services, "find_bootstrap_address", lambda _: started)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: mock.MagicMock())
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    _initialize()
    assert addresses == [expected]


@pytest.mark.parametrize(
    ("address", "received"),
    [
        ("127.0.0.1:1", "no answer"),
        ("no-such-host.invalid:6379", "no answer"),
        ("foo", "no HOST:PORT"),
        ("http://127.0.0.1:8265", "no HOST:PORT"),
    ],
)
def test_a_wrong_address_is_one_line_at_once(monkeypatch: pytest.MonkeyPatch, address: str, received: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"received {received}"):
        _initialize()
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("address", ["auto", "ray://head", "ray://head:10001"])
def test_addresses_that_ray_resolves_itself_are_left_to_it(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    addresses = []
    monkeypatch.setattr(ray, "init", lambda *, address, **_: addresses.append(address))
    monkeypatch.setenv("RAY_ADDRESS", address)
    _initialize()
    assert addresses == [address]


def test_a_sigterm_ends_with_the_exit_code_of_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own handler ends with 15."""
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, lambda signum, _: sys.exit(signum)))
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        _initialize()
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.code == 143
        signal.signal(signal.SIGTERM, ours := lambda *_: None)
        _initialize()
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)
