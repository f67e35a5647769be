import threading
import time

import pytest
import tensorflow as tf

from annlib.errors import ClusterError
from annlib.training.distributed.worker_loop import _is_of_a_lost_peer, meet


@pytest.mark.parametrize(
    ("error", "is_of_a_peer"),
    [
        (tf.errors.InvalidArgumentError(None, None, "indices[0,1] = 12 is not in [0, 10)"), False),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[100000,100000]"), False),
        # A worker that ends with an error of its own aborts the others with it.
        (tf.errors.InvalidArgumentError(None, None, "Collective ops is aborted by: indices[0,1] = 12"), True),
        (tf.errors.UnavailableError(None, None, "failed to connect to all addresses"), True),
        (tf.errors.InternalError(None, None, "Failed to complete all-reduce"), True),
        (tf.errors.FailedPreconditionError(None, None, "Coordination service has shut down"), True),
        (tf.errors.NotFoundError(None, None, "; No such file or directory"), False),
        (tf.errors.UnknownError(None, None, "KeyError: 3\nTraceback (most recent call last):\n  ..."), False),
        (ConnectionError("the store of Ray does not answer"), True),
        (ValueError("a bug"), False),
    ],
)
def test_what_a_lost_worker_causes_is_told_from_a_workers_own_errors(error: Exception, is_of_a_peer: bool) -> None:
    assert _is_of_a_lost_peer(error) is is_of_a_peer


def test_a_label_out_of_range_is_the_workers_own_error() -> None:
    with pytest.raises(tf.errors.OpError) as caught:
        tf.gather(tf.zeros((10, 2)), tf.constant([12]))
    assert not _is_of_a_lost_peer(caught.value)


class Mailbox:
    """Flags and values in this process."""

    def __init__(self) -> None:
        self.flags: set[str] = set()
        self.values: dict[str, dict[str, str]] = {}

    def set(self, flag: str) -> None:
        self.flags.add(flag)

    def is_set(self, flag: str) -> bool:
        return flag in self.flags

    def get(self, name: str) -> dict[str, str] | None:
        return self.values.get(name)


def test_workers_wait_for_the_last_one() -> None:
    mailbox, met = Mailbox(), []

    def take_part(rank: int) -> None:
        meet(mailbox, 1, rank, 3, timeout_s=30)  # type: ignore[arg-type]
        met.append(rank)

    threads = [threading.Thread(target=take_part, args=(rank,)) for rank in (0, 2)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    assert met == []
    take_part(1)
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(met) == [0, 1, 2]


def test_workers_that_are_not_ready_are_named_with_their_nodes() -> None:
    mailbox = Mailbox()
    mailbox.values = {"node/2/1": {"node": "b"}}
    # Those of an earlier start do not count.
    mailbox.flags = {"ready/1/1", "ready/1/2"}
    with pytest.raises(ClusterError, match="received none of rank 1 on b, rank 2 on an unknown node") as caught:
        meet(mailbox, 2, 0, 3, timeout_s=0.1)  # type: ignore[arg-type]
    assert "--start-timeout-s" in str(caught.value)
