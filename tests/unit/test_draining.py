"""Leaving a node whose cluster cannot be told."""

import socket

import pytest

from annlib import draining
from annlib.errors import ClusterError


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a head that has ended."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return address


def test_a_node_whose_head_has_gone_may_go(
    gone: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(draining, "running_address", lambda: gone)
    assert draining.drain(deadline_s=5) == []
    assert caplog.messages == [f"the head at {gone} does not answer any more: there is nothing to leave"]


@pytest.mark.parametrize("is_given", [True, False])
def test_no_node_is_one_line(gone: str, monkeypatch: pytest.MonkeyPatch, is_given: bool) -> None:
    monkeypatch.setattr(draining, "running_address", lambda: None)
    if is_given:
        monkeypatch.setenv("RAY_ADDRESS", gone)
    with pytest.raises(ClusterError, match=r"^no Ray node runs on this machine, or its head does not answer: expected"):
        draining.drain(deadline_s=5)
