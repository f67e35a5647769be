import ctypes
from types import SimpleNamespace

import pytest
from tensorflow.core.protobuf import config_pb2

from annlib.training import messages


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """TensorFlow's settings of this process, of which a test has its own."""
    found = SimpleNamespace(_config=None)
    monkeypatch.setattr(messages.context, "context", lambda: found)
    return found


def test_pieces_are_set_beside_what_was_set(settings: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    messages.prepare_messages()
    assert settings._config.experimental.recv_buf_max_chunk == 2**14
    settings._config = config_pb2.ConfigProto(log_device_placement=True)
    messages.prepare_messages()
    assert settings._config.log_device_placement
    assert settings._config.experimental.recv_buf_max_chunk == 2**14


def test_memory_of_tensors_is_kept(settings: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[int, int] = {}
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(mallopt=options.__setitem__))
    messages.prepare_messages()
    # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h.
    assert options == {-3: 2**27, -1: 2**29}
