import pytest

from annlib.training.distributed.controller import describe

NO_HEARTBEATS = """UnavailableError: Collective ops is aborted by: Error reported from /job:worker/task:{0}: \
The following tasks are unhealthy (stopped sending heartbeats):
{1}
The tasks have crashed. Check the task logs for an earlier error. [[{{node CollectiveReduceV2}}]] /task:9
"""
TASK = "/job:worker/replica:0/task:{}"
ABORTED = "Collective ops is aborted by: Connection reset by peer"
NO_COORDINATOR = "Collective ops is aborted by: Deadline Exceeded\n\nRPC: /tensorflow.CoordinationService/Heartbeat"


class Failed(Exception):
    def __init__(self, errors: dict[int, Exception]) -> None:
        self.worker_failures = errors


@pytest.mark.parametrize(
    ("errors", "cause"),
    [
        ({0: NO_HEARTBEATS.format(1, TASK.format(1))}, "the process of rank 1 does not answer"),
        (
            {0: NO_HEARTBEATS.format(1, TASK.format(1) + "\n" + TASK.format(12))},
            "the process of rank 1, 12 does not answer",
        ),
        ({1: NO_COORDINATOR}, "the process of rank 0 does not answer"),
        ({0: ABORTED, 1: NO_COORDINATOR}, "the process of rank 0 does not answer"),
        ({1: ABORTED}, "rank 1 lost its connection to another worker"),
        ({1: "Traceback\n  a line\nValueError: bad row"}, "rank 1 failed: ValueError: bad row"),
    ],
)
def test_the_cause_is_the_rank_that_went_first(errors: dict[int, str], cause: str) -> None:
    failure = Failed({rank: RuntimeError(text) for rank, text in errors.items()})
    assert describe([failure]) == cause


def test_a_lost_process_comes_before_what_others_say() -> None:
    from ray.exceptions import RayActorError

    assert describe([Failed({0: RuntimeError(ABORTED), 1: RayActorError()})]) == "the process of rank 1 was lost"


def test_no_failure_is_said_as_well() -> None:
    assert describe([]) == "the Ray workers left no result"
