import socket
import threading
import time

import pytest

from annlib.data import download as module
from annlib.data.download import download

BODY = bytes(range(256)) * 20_000  # 5 MB: several chunks


def test_whole_body_is_returned(server):
    server.answers["/file"] = BODY
    assert download(f"{server.url}/file", limit_bytes=len(BODY)) == BODY


def test_body_without_a_length_is_returned(server):
    def answer(handler):
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(BODY)

    server.answers["/file"] = answer
    assert download(f"{server.url}/file", limit_bytes=len(BODY)) == BODY


def test_redirect_is_followed(server):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", "/file")
        handler.end_headers()

    server.answers |= {"/old": answer, "/file": BODY}
    assert download(f"{server.url}/old", limit_bytes=len(BODY)) == BODY


def test_missing_file_gives_the_status(server):
    with pytest.raises(OSError, match="404"):
        download(f"{server.url}/none", limit_bytes=10)


def test_interrupted_body_gives_both_sizes(server):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 400)

    server.answers["/file"] = answer
    with pytest.raises(OSError, match="interrupted: expected 1,000 bytes, received 400"):
        download(f"{server.url}/file", limit_bytes=1000)


def test_too_long_body_is_refused(server):
    server.answers["/file"] = BODY
    with pytest.raises(OSError, match="longer than 1,000 bytes"):
        download(f"{server.url}/file", limit_bytes=1_000)


def test_silent_server_is_given_up(server, monkeypatch):
    monkeypatch.setattr(module, "IDLE_TIMEOUT_S", 0.2)
    was_given_up = threading.Event()
    server.answers["/file"] = lambda handler: was_given_up.wait(30)
    with pytest.raises(OSError, match="timed out"):
        download(f"{server.url}/file", limit_bytes=10)
    was_given_up.set()


def test_server_that_stops_in_the_middle_is_given_up(server, monkeypatch):
    was_given_up = threading.Event()

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x")
        was_given_up.wait(30)

    monkeypatch.setattr(module, "IDLE_TIMEOUT_S", 0.2)
    server.answers["/file"] = answer
    with pytest.raises(OSError, match=r"timed out: no byte for 0\.2 s"):
        download(f"{server.url}/file", limit_bytes=1000)
    was_given_up.set()


def test_trickling_server_is_given_up(server, monkeypatch):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        try:
            for _ in range(20):
                handler.wfile.write(b"x")
                time.sleep(0.05)
        except OSError:
            pass  # the client has gone

    monkeypatch.setattr(module, "TOTAL_TIMEOUT_S", 0.2)
    server.answers["/file"] = answer
    with pytest.raises(OSError, match=r"too slow: \d bytes in 0\.2 s"):
        download(f"{server.url}/file", limit_bytes=1000)


def test_answer_that_is_not_http_is_an_os_error(server):
    server.answers["/file"] = lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")
    with pytest.raises(OSError, match="not an HTTP answer: BadStatusLine"):
        download(f"{server.url}/file", limit_bytes=10)


def test_closed_port_is_an_os_error(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            download(f"http://127.0.0.1:{free.getsockname()[1]}/file", limit_bytes=10)
