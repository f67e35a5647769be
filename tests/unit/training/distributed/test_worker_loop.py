import pytest
import tensorflow as tf

from annlib.training.distributed.worker_loop import _is_of_a_lost_peer


@pytest.mark.parametrize(
    ("error", "is_of_a_peer"),
    [
        (tf.errors.InvalidArgumentError(None, None, "indices[0,1] = 12 is not in [0, 10)"), False),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[100000,100000]"), False),
        # A worker that ends with an error of its own aborts the others with it.
        (tf.errors.InvalidArgumentError(None, None, "Collective ops is aborted by: indices[0,1] = 12"), True),
        (tf.errors.UnavailableError(None, None, "failed to connect to all addresses"), True),
        (tf.errors.InternalError(None, None, "Failed to complete all-reduce"), True),
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
