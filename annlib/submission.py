"""Submits a command to a Ray cluster's job server, shows its log, and returns its exit code."""

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from annlib.errors import ClusterError, ConfigError, TrainingError
from annlib.training.driver import EXIT_SIGNAL

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
# What a job does not need. Ray itself leaves out what .gitignore lists, but only where there is such a file.
EXCLUDES = (
    ".git",
    ".venv",
    "/runs",
    "/build",
    "/dist",
    "__pycache__",
    "*.egg-info",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".import_linter_cache",
)
# As shells and timeout(1) do it: 128 and the signal's number, 124 after the time limit.
EXIT_STOPPED = EXIT_SIGNAL + signal.SIGTERM
EXIT_TIMEOUT = 124
# How often the job's status is asked for, in seconds.
POLL_S = 1.0
# How long one request to the job server may take, and how long the server may be away, in seconds.
REQUEST_TIMEOUT_S = 30
AWAY_S = 120
# Between SIGTERM and SIGKILL when a job is stopped. With Ray's 3 s, few epochs end and leave their checkpoint.
STOP_WAIT_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"
STOP_WAIT_S = "60"
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class JobClient(Protocol):
    """What is used of `ray.job_submission.JobSubmissionClient`."""

    def get_job_info(self, job_id: str) -> Any:
        """Returns the job's `JobDetails`."""

    def get_job_logs(self, job_id: str) -> str:
        """Returns the whole log."""

    def tail_job_logs(self, job_id: str) -> AsyncIterator[str]:
        """Yields the log from its start as it grows; may end at any time."""

    def stop_job(self, job_id: str) -> bool:
        """Asks the job to stop; returns whether it could be asked."""


def submit(
    command: Sequence[str],
    *,
    address: str | None = None,
    working_dir: Path = Path(),
    submission_id: str | None = None,
    timeout_s: int | None = None,
) -> int:
    """Runs a command as a job of a Ray cluster and waits for its end.

    Ctrl-C and SIGTERM stop the job; a second one leaves without waiting for it.

    Args:
        command: program and arguments, at least one word, run in a copy of `working_dir`.
        address: of the job server, http or https; None takes `find_address`'s.
        working_dir: directory that is uploaded, without `EXCLUDES` and what its .gitignore lists.
        submission_id: name of the job, new on this cluster; None lets Ray choose one.
        timeout_s: stops the job when it has not ended after this many seconds; None waits for ever.

    Returns:
        The exit code of the command: 143 when somebody stopped the job, 124 when the time limit did, 130 or 143 when
        a signal to this process did.

    Raises:
        ConfigError: command, address or working directory is not usable, or the server refused the job.
        ClusterError: the job server cannot be reached, or refused the token.
        TrainingError: the job failed without an exit code, or the job server went away for `AWAY_S`.
    """
    if not any(command):
        raise ConfigError("there is no command: expected one after `--`, for example `-- python jobs/train.py digits`.")
    if not working_dir.is_dir():
        raise ConfigError(
            f"--working-dir expected a directory, received {working_dir}, which is none. Give the one that holds jobs/."
        )
    url = find_address(address, os.environ)
    with _signals() as received:
        client = _connect(url)
        submission_id = _start(client, command, working_dir, submission_id)
        print(f"submitted job {submission_id} to {url}", flush=True)  # noqa: T201
        return asyncio.run(follow(client, submission_id, received=received, timeout_s=timeout_s))


def find_address(given: str | None, environment: Mapping[str, str]) -> str:
    """Returns the address of the job server: `given`, else that of the environment, else this machine's.

    RAY_ADDRESS is passed over where it names no http server but the cluster itself, as `jobs/train.py` reads it.

    Raises:
        ConfigError: the address is not http or https.
    """
    cluster = environment.get("RAY_ADDRESS", "")
    default = cluster if cluster.startswith(("http://", "https://")) else DEFAULT_ADDRESS
    address = given or environment.get("RAY_API_SERVER_ADDRESS") or default
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"the address of the job server expected http://HOST:PORT, received {address}. Give --address, "
            f"for example {DEFAULT_ADDRESS}."
        )
    return address.rstrip("/")


def exit_code(details: Any) -> int:
    """Returns the exit code of an ended job from its `JobDetails`."""
    if details.status == "SUCCEEDED":
        return 0
    if details.status == "STOPPED":
        return EXIT_STOPPED
    code = details.driver_exit_code
    if code is not None and code < 0:
        # As Python's subprocess gives it: ended by this signal.
        return EXIT_SIGNAL - int(code)
    return int(code or 1)


async def follow(
    client: JobClient,
    submission_id: str,
    *,
    received: Sequence[int] = (),
    timeout_s: int | None = None,
    output: TextIO | None = None,
) -> int:
    """Shows a job's log until the job has ended; stops the job after a signal or the time limit.

    Args:
        client: of the job server.
        submission_id: of the job.
        received: numbers of the signals so far; may grow meanwhile.
        timeout_s: as in `submit`.
        output: where the log goes; None is the standard output.

    Returns:
        As `submit`.

    Raises:
        TrainingError: as `submit`.
    """
    log = _Log(output or sys.stdout)
    tail = asyncio.create_task(_tail(client, submission_id, log))
    started = time.monotonic()

    def is_over() -> bool:
        return bool(received) or (timeout_s is not None and time.monotonic() - started > timeout_s)

    try:
        details = await _wait(client, submission_id, is_over)
    finally:
        tail.cancel()
        await asyncio.wait([tail])
    # The stream may have ended, or lag behind: the status decides, and what is missing comes now.
    try:
        log.show(0, client.get_job_logs(submission_id))
    except (OSError, RuntimeError) as error:
        print(f"the end of the log is missing: {_line(error)}", file=sys.stderr)  # noqa: T201
    if details.status == "FAILED" and details.driver_exit_code is None:
        raise TrainingError(f"job {submission_id} failed without an exit code: {_line(details.message)}")
    code = exit_code(details)
    if details.status == "STOPPED" and is_over():
        code = EXIT_SIGNAL + received[0] if received else EXIT_TIMEOUT
    ends = {"SUCCEEDED": "succeeded", "STOPPED": "was stopped"}
    log.end(f"job {submission_id} {ends.get(details.status, 'failed')}, exit code {code}")
    return code


class _Log:
    """Shows each character of a text once, however often and from wherever the text is read."""

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._num_shown = 0
        self._last = "\n"

    def show(self, start: int, text: str) -> None:
        """Shows what is new of `text`, which begins at character `start` of the whole."""
        new = text[max(self._num_shown - start, 0) :]
        if new:
            self._output.write(new)
            self._output.flush()
            self._num_shown += len(new)
            self._last = new[-1]

    def end(self, line: str) -> None:
        """Adds a line of our own."""
        self._output.write(line + "\n" if self._last == "\n" else f"\n{line}\n")
        self._output.flush()


async def _tail(client: JobClient, submission_id: str, log: _Log) -> None:
    while True:
        position = 0
        # Whatever has ended the stream, the next one starts at the beginning of the log.
        with contextlib.suppress(Exception):
            async for text in client.tail_job_logs(submission_id):
                log.show(position, text)
                position += len(text)
        await asyncio.sleep(POLL_S)


async def _wait(client: JobClient, submission_id: str, is_over: Callable[[], bool]) -> Any:
    asked = False
    answered = time.monotonic()
    while True:
        try:
            details = client.get_job_info(submission_id)
            answered = time.monotonic()
            if details.status in _ENDED:
                return details
            if is_over() and not asked:
                asked = client.stop_job(submission_id)
        except (OSError, RuntimeError) as error:
            if time.monotonic() - answered > AWAY_S:
                raise TrainingError(
                    f"the job server has not answered for {AWAY_S} s: {_line(error)}. The job may run on: see "
                    f"`ray job status {submission_id}`."
                ) from error
        await asyncio.sleep(POLL_S)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects Ctrl-C and SIGTERM; the second one leaves."""
    received: list[int] = []

    def handle(signum: int, frame: Any) -> None:
        received.append(signum)
        if len(received) > 1:
            raise SystemExit(EXIT_SIGNAL + signum)
        name = signal.Signals(signum).name
        print(f"{name}: stopping the job; a second one leaves it to itself", file=sys.stderr)  # noqa: T201

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _connect(url: str) -> Any:
    import logging

    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    # Ray's own lines, for example of each upload and each end of a stream.
    logging.getLogger("ray").setLevel(logging.ERROR)

    class Client(JobSubmissionClient):  # type: ignore[misc]  # Ray has no types that mypy can use
        def _do_request(self, *arguments: Any, **options: Any) -> Any:
            try:
                # Without a time limit of its own, requests waits for ever for a server that does not answer.
                return super()._do_request(*arguments, timeout=REQUEST_TIMEOUT_S, **options)
            except AuthenticationError as error:
                raise ClusterError(_token_message(url, str(error))) from None

    # Ray prefers this variable, and RAY_ADDRESS, to the argument.
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    try:
        return Client(url)
    except AuthenticationError:
        # Before it has asked the server.
        raise ClusterError(
            "RAY_AUTH_MODE=token wants a token: expected the cluster's in ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or "
            "RAY_AUTH_TOKEN, received none. Put it there, or leave RAY_AUTH_MODE out where the cluster wants none."
        ) from None
    except (OSError, RuntimeError, ValueError) as error:
        received = _line(error).rstrip(".")
        raise ClusterError(
            f"no Ray job server answers at {url}: expected a running one, received {received}. Start it with "
            "`ray start --head`, or give --address."
        ) from error


def _token_message(url: str, answer: str) -> str:
    is_missing = answer.startswith("Authentication required")
    return (
        f"the job server at {url} expected its token, received {'no token' if is_missing else 'a wrong one'}. Set "
        "RAY_AUTH_MODE=token, and the cluster's token in ~/.ray/auth_token, RAY_AUTH_TOKEN_PATH or RAY_AUTH_TOKEN."
    )


def _start(client: Any, command: Sequence[str], working_dir: Path, submission_id: str | None) -> str:
    try:
        found: str = client.submit_job(
            entrypoint=shlex.join(command),
            submission_id=submission_id,
            runtime_env={
                "working_dir": str(working_dir),
                "excludes": list(EXCLUDES),
                # The process that stops the job has the job's own variables.
                "env_vars": {STOP_WAIT_VARIABLE: os.environ.get(STOP_WAIT_VARIABLE, STOP_WAIT_S)},
            },
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"the job server refused the job: {_line(error)}") from error
    return found


def _line(error: object) -> str:
    """Returns the last line of a message, which is what a traceback of the server is about."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return (lines[-1] if lines else type(error).__name__)[:500]
