import os
import time
from pathlib import Path

import pytest

from annlib.benchmark.child import Child, call_all
from annlib.errors import DataError, TrainingError


def environment(name: str) -> tuple[str | None, int, int]:
    return os.environ.get(name), len(os.sched_getaffinity(0)), os.getpid()


def fail(error: Exception) -> None:
    raise error


def test_a_child_stays_the_same_process_with_its_own_environment_and_core() -> None:
    core = min(os.sched_getaffinity(0))
    with Child("a", environment={"ANNLIB_TRY": "yes"}, core=core) as child:
        first, second = child.call(environment, "ANNLIB_TRY"), child.call(environment, "ANNLIB_TRY")
    assert first == second
    assert first[:2] == ("yes", 1)
    assert first[2] != os.getpid()
    assert not os.path.exists(f"/proc/{first[2]}")


def test_errors_for_the_user_come_as_they_are_and_others_with_the_name() -> None:
    with Child("the slow one") as child:
        with pytest.raises(DataError, match=r"^no data$"):
            child.call(fail, DataError("no data"))
        with pytest.raises(TrainingError, match=r"(?s)the slow one failed: .*ZeroDivisionError: by nothing"):
            child.call(fail, ZeroDivisionError("by nothing"))
        assert child.call(len, "it goes on") == 10


def test_a_child_that_dies_or_hangs_is_named() -> None:
    with Child("rank 0") as first, Child("rank 1") as second:
        with pytest.raises(TrainingError, match=r"rank 1 did not answer: expected a figure within 0\.1 s"):
            second.call(time.sleep, 60, timeout_s=0.1)
        first.call(os.write, 2, b"greetings\nno more room\n")
        with pytest.raises(TrainingError, match=r"rank 0 ended: .* exit code 3 of .* its last words: no more room"):
            first.call(os._exit, 3)


def meet(directory: Path) -> int:
    """Returns how many processes came here, once there are two."""
    (directory / str(os.getpid())).touch()
    deadline = time.monotonic() + 30
    while len(list(directory.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(list(directory.iterdir()))


def test_all_work_at_the_same_time(tmp_path: Path) -> None:
    with Child("rank 0") as first, Child("rank 1") as second:
        assert call_all([first, second], meet, tmp_path, timeout_s=60) == [2, 2]
