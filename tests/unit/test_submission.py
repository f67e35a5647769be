"""`jobs/submit.py`: the job's status decides, its log is shown once, its exit code is returned."""

import asyncio
import io
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from annlib import submission
from annlib.errors import ConfigError, TrainingError
from annlib.submission import exit_code, find_address, follow, submit


def details(status: str, code: int | None = None) -> Any:
    return SimpleNamespace(status=status, driver_exit_code=code, message="it broke\nRuntimeError: why")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", None, 1), ("FAILED", -9, 137), ("STOPPED", None, 143)],
)
def test_the_exit_code_is_the_jobs(status: str, code: int | None, expected: int) -> None:
    assert exit_code(details(status, code)) == expected


class Client:
    """A job whose log stream ends early, as Ray's does."""

    def __init__(self, last: Any) -> None:
        self._left = [details("PENDING"), details("RUNNING"), details("RUNNING")]
        self._last = last
        self.stopped = False

    def get_job_info(self, job_id: str) -> Any:
        return self._left.pop(0) if self._left and not self.stopped else self._last

    def get_job_logs(self, job_id: str) -> str:
        return "one\ntwo\nthree\n"

    async def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        yield "one\n"
        yield "tw"

    def stop_job(self, job_id: str) -> bool:
        self.stopped = True
        return True


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "POLL_S", 0.01)


def run(client: Client, **options: Any) -> tuple[int, str]:
    output = io.StringIO()
    code = asyncio.run(follow(client, "job", output=output, **options))
    return code, output.getvalue()


def test_each_line_of_the_log_comes_once_though_the_stream_ends_early() -> None:
    assert run(Client(details("SUCCEEDED", 0))) == (0, "one\ntwo\nthree\njob job succeeded, exit code 0\n")


def test_a_job_that_others_stopped_is_143() -> None:
    code, output = run(Client(details("STOPPED")))
    assert (code, output.splitlines()[-1]) == (143, "job job was stopped, exit code 143")


def test_a_signal_stops_the_job() -> None:
    client = Client(details("STOPPED"))
    assert run(client, received=[2])[0] == 130
    assert client.stopped


def test_the_time_limit_stops_the_job() -> None:
    client = Client(details("STOPPED"))
    assert run(client, timeout_s=0)[0] == 124
    assert client.stopped


def test_a_failure_without_an_exit_code_tells_why() -> None:
    with pytest.raises(TrainingError, match="RuntimeError: why"):
        run(Client(details("FAILED")))


def test_the_address_is_found_in_order() -> None:
    both = {"RAY_API_SERVER_ADDRESS": "http://a:1", "RAY_ADDRESS": "http://b:2/"}
    assert find_address("http://c:3/", both) == "http://c:3"
    assert find_address(None, both) == "http://a:1"
    assert find_address(None, {"RAY_ADDRESS": "http://b:2/"}) == "http://b:2"
    assert find_address(None, {"RAY_ADDRESS": "host:6379"}) == "http://127.0.0.1:8265"
    with pytest.raises(ConfigError, match="expected http://HOST:PORT, received host:8265"):
        find_address("host:8265", {})


def test_wrong_arguments_are_told_before_anything_is_sent(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match="no command"):
        submit([])
    with pytest.raises(ConfigError, match="--working-dir expected a directory"):
        submit(["true"], working_dir=tmp_path / "none")


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        ("Traceback:\n  a line\nValueError: a job j1 exists already.\n.", "ValueError: a job j1 exists already."),
        ("", "ValueError"),
    ],
)
def test_what_the_server_says_is_its_last_line_of_words(answer: str, line: str) -> None:
    assert submission._line(ValueError(answer)) == line
