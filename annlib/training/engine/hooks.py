"""What a model's callbacks need, which decides how much one call of the compiled function does."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from annlib.training.engine.compilation import overrides
from annlib.training.engine.packed_logs import Logs
from annlib.training.engine.program import Steps

# These look at the logs alone.
_READ_LOGS = (keras.callbacks.History, keras.callbacks.CSVLogger, keras.callbacks.ProgbarLogger)
_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
_BETWEEN = ("on_train_batch_end", "on_batch_end", "on_test_begin", "on_test_batch_begin")


def read_logs_alone(callbacks: keras.callbacks.CallbackList) -> bool:
    """Tells whether all callbacks look at the logs alone, so that epochs can run ahead of the hooks."""
    return all(type(callback) in _READ_LOGS or _reacts_to_logs(callback) for callback in callbacks.callbacks)


def react_to_logs(callbacks: keras.callbacks.CallbackList) -> bool:
    """Tells whether a callback that looks at the logs alone may stop the training or change the learning rate."""
    return any(_reacts_to_logs(callback) for callback in callbacks.callbacks)


def read_learning_rate(callbacks: keras.callbacks.CallbackList) -> bool:
    """Tells whether a callback puts the optimizer's learning rate into the logs."""
    return any(type(callback) is keras.callbacks.ReduceLROnPlateau for callback in callbacks.callbacks)


def _reacts_to_logs(callback: keras.callbacks.Callback) -> bool:
    if type(callback) is keras.callbacks.EarlyStopping:
        # With the best weights it looks at the model.
        return not callback.restore_best_weights
    return type(callback) is keras.callbacks.ReduceLROnPlateau


def compare_without_tensorflow(callbacks: keras.callbacks.CallbackList) -> None:
    """Lets callbacks compare an epoch's metric with the best one by NumPy, with the same result.

    Keras asks TensorFlow, which takes 0.2 ms: a tenth of a small model's epoch.
    """
    by_numpy = {keras.ops.less: _less, keras.ops.greater: _greater}
    for callback in callbacks.callbacks:
        if _reacts_to_logs(callback):
            callback.monitor_op = by_numpy.get(callback.monitor_op, callback.monitor_op)


def _less(value: float, best: float) -> bool:
    # Keras, too, rounds first.
    dtype = np.dtype(keras.config.floatx()).type
    return bool(dtype(value) < dtype(best))


def _greater(value: float, best: float) -> bool:
    return _less(best, value)


def count_batches(callbacks: keras.callbacks.CallbackList) -> bool:
    """Tells whether a callback counts on being called for each batch; the progress bar, for one, does not."""
    return any(_counts_batches(callback) for callback in callbacks.callbacks)


def _counts_batches(callback: keras.callbacks.Callback) -> bool:
    # Those of Keras that act within an epoch: ModelCheckpoint and BackupAndRestore, TensorBoard.
    if any(getattr(callback, name, "epoch") != "epoch" for name in ("save_freq", "update_freq")):
        return True
    # What it profiles is given by the numbers of batches.
    if getattr(callback, "_should_trace", False):
        return True
    is_own = type(callback).__module__.split(".")[0] not in ("keras", "annlib")
    is_own = is_own or type(callback) is keras.callbacks.LambdaCallback
    return is_own and overrides(callback, keras.callbacks.Callback, *_BATCH_HOOKS)


def act_before_validation(callbacks: keras.callbacks.CallbackList) -> bool:
    """Tells whether a callback may act between an epoch's last step and its validation.

    A callback that has such a hook, but does nothing with the model in it after the last step, says so by an attribute
    `acts_before_validation = False`.
    """
    return any(_acts_before_validation(callback) for callback in callbacks.callbacks)


def _acts_before_validation(callback: keras.callbacks.Callback) -> bool:
    if type(callback) in _READ_LOGS:
        return False
    if hasattr(callback, "acts_before_validation"):
        return bool(callback.acts_before_validation)
    return overrides(callback, keras.callbacks.Callback, *_BETWEEN)


def with_test_hooks(
    callbacks: keras.callbacks.CallbackList, parts: Sequence[Steps], evaluate: Callable[[int, int], Logs]
) -> Logs:
    """Evaluates parts [first, last) of the steps, and calls the test hooks; returns the metrics after the last one."""
    logs: Logs = {}
    callbacks.on_test_begin()
    for first, last in parts:
        callbacks.on_test_batch_begin(first)
        logs = evaluate(first, last)
        callbacks.on_test_batch_end(last - 1, logs)
    callbacks.on_test_end(logs)
    return logs
