"""The events of a run's workers, and what `metrics.json` tells of them."""

from pathlib import Path

from annlib.artifacts import RunDirectory
from annlib.training import attempts


def event(kind: str, time: float, **values: object) -> dict[str, object]:
    return {"event": kind, "time": time, **values}


def test_the_time_lost_is_from_the_first_failure_to_the_first_steps() -> None:
    events = [
        event("start", 0.0),
        event("worker", 5.0, rank=1, world_size=2),
        event("worker", 5.0, rank=0, world_size=2),
        event("training", 10.0),
        event("failure", 20.0, cause="rank 1 was lost"),
        event("failure", 25.0, cause="rank 0 was lost"),
        event("worker", 28.0, rank=0, world_size=2),
        event("training", 31.5),
        event("resize", 50.0, cause="nodes came"),
        event("worker", 52.0, rank=0, world_size=3),
        event("training", 54.0),
    ]
    assert attempts.summary(events) == {
        "attempts": 3,
        "restarts": [
            {"cause": "rank 1 was lost", "seconds_lost": 11.5},
            {"cause": "nodes came", "seconds_lost": 4.0},
        ],
        "world_sizes": [2, 2, 3],
    }


def test_a_driver_that_is_started_again_counts() -> None:
    events = [event("start", 0.0), event("training", 3.0), event("start", 60.0)]
    restarts = attempts.summary([*events, event("training", 65.0)])["restarts"]
    assert restarts == [{"cause": "the driver was started again", "seconds_lost": 5.0}]


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert attempts.read(run) == []
    attempts.note(run, event("start", 1.0))
    with run.attempts.open("a") as file:
        file.write('{"event": "trai')
    assert attempts.read(run) == [event("start", 1.0)]


def test_an_event_after_a_line_that_a_full_disk_cut_is_read(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.attempts.write_text('{"event": "trai')
    attempts.note(run, event("start", 1.0))
    attempts.note(run, event("training", 2.0))
    assert attempts.read(run) == [event("start", 1.0), event("training", 2.0)]


def test_nobody_waited_while_there_was_no_driver() -> None:
    events = [event("training", 3.0), event("failure", 60.0, cause="rank 1 was lost"), event("start", 86_400.0)]
    restarts = attempts.summary([*events, event("training", 86_410.0)])["restarts"]
    assert restarts == [{"cause": "rank 1 was lost", "seconds_lost": 10.0}]
