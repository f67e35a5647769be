"""Leaving a node whose cluster cannot be told."""

import socket

import pytest

from annlib import draining
from annlib.errors import ClusterError


@pytest.fixture
def gone() -> str:
    """The address of a head that has ended."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("place", ["nowhere", "on this machine", "in the environment"])
def test_a_node_may_go_where_ray_has_ended_before(
    gone: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    monkeypatch.setattr(draining, "running_address", lambda: gone if place == "on this machine" else None)
    monkeypatch.setenv("RAY_ADDRESS", gone if place == "in the environment" else "auto")
    assert draining.drain(deadline_s=5) == []
    (message,) = caplog.messages
    assert ("no Ray node runs on this machine" if place == "nowhere" else f"the head at {gone}") in message
    assert "there is nothing to leave" in message


@pytest.mark.parametrize("address", ["somewhere", "127.0.0.1:x"])
def test_a_malformed_address_is_one_line(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"^no node of a cluster at {address} runs on this machine.*RAY_ADDRESS"):
        draining.drain(deadline_s=5)
