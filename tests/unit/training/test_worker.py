import pytest

from annlib.training.worker import _errors_of_hdf5


def test_a_full_disk_below_hdf5_is_waited_for_like_any_other() -> None:
    message = "Can't decrement id ref count (file write failed: errno = 28, error message = 'No space left on device')"
    with pytest.raises(OSError, match="errno = 28"), _errors_of_hdf5():
        raise RuntimeError(message)


def test_other_errors_of_saving_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="a bug"), _errors_of_hdf5():
        raise RuntimeError("a bug")
