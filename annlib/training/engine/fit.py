"""`fit`: what `keras.Model.fit` does, with whole chunks of steps in one call."""

import contextlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from annlib.errors import ConfigError
from annlib.training.engine.arguments import (
    callback_list,
    check_compiled,
    check_integer,
    check_no_step_limit,
    check_targets,
)
from annlib.training.engine.arrays import as_dataset, split_off_validation, with_texts
from annlib.training.engine.compilation import is_distributed
from annlib.training.engine.options import StepOptions
from annlib.training.engine.packed_logs import Logs
from annlib.training.engine.program import Data
from annlib.training.engine.session import Session
from annlib.training.engine.sources import StreamedData, only_streamed, source_of

_DEFAULT_OPTIONS = StepOptions()


def fit(
    model: keras.Model,
    x: Any,
    y: Any = None,
    batch_size: int | None = None,
    epochs: int = 1,
    verbose: int | str = "auto",
    *,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    validation_split: float = 0.0,
    validation_data: tuple[Any, ...] | StreamedData | None = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    initial_epoch: int = 0,
    initial_step: int = 0,
    validation_batch_size: int | None = None,
    seed: int | None = None,
    options: StepOptions = _DEFAULT_OPTIONS,
) -> keras.callbacks.History:
    """Trains a compiled Keras model as `keras.Model.fit` does, with the same losses and metrics, faster.

    Half a second of steps is one call, of the validation as well. Where a callback counts on its batch hooks, such
    as one of the user's own that has some, a call is one step, or `steps_per_execution` of them, as in Keras. A
    model created in the scope of a `tf.distribute.Strategy` is trained on all its replicas; every worker passes the
    whole of x and y and works on its rows of each global batch.

    Args:
        model: a compiled Keras 3 model, built or not, on the TensorFlow backend.
        x: inputs, shape (num_samples, ...): an array, tensor or DataFrame, or a tuple, list or dict of them; or
            `StreamedData`, which holds targets and weights, too.
        y: targets, the same kinds.
        batch_size: samples of a global batch, 1 or more; 32 when None.
        epochs: number of the epoch to stop at, so that `epochs - initial_epoch` are trained.
        verbose: 0 silent, 1 or "auto" a progress bar, 2 a line an epoch.
        callbacks: Keras callbacks, or one.
        validation_split: fraction of the last rows to validate on instead of training on them.
        validation_data: (x, y), (x, y, sample_weight) or, without targets, (x,); or `StreamedData`. To validate on
            after each epoch.
        shuffle: visits the rows in an order that depends on (seed, epoch) alone; False keeps their order. Streamed
            rows are shuffled by blocks and within windows.
        class_weight: weight of the loss of each class index.
        sample_weight: weight of each sample's loss, shape (num_samples,), or a structure like y.
        initial_epoch: first epoch, counted from 0; more than 0 goes on with an earlier training.
        initial_step: first step of the first epoch; more than 0 goes on within an epoch, with the metrics as they are:
            `set_metric_state` puts back those of the steps before. After the last step, it goes on with the validation.
        validation_batch_size: batch size of the validation; when None, `batch_size`, or more rows, up to 1,024, where
            layers, loss and metrics are Keras' own and count row by row.
        seed: seed of the shuffling, 0 or more. None draws one from NumPy's global generator, which
            `keras.utils.set_random_seed` seeds; with several replicas, which must agree, None is 0.
        options: how a training step is computed.

    Returns:
        The `keras.callbacks.History` of the metrics of each epoch.

    Raises:
        ConfigError: an argument is out of range, or the model is not compiled.
        DataError: the arrays do not fit together.
        NonFiniteLossError: the loss became NaN or infinite; the message names the epoch and the learning rate.
    """
    check_compiled(model)
    check_no_step_limit()
    options.check(model)
    batch_size = check_integer("batch_size", 32 if batch_size is None else batch_size, minimum=1)
    epochs = check_integer("epochs", epochs, minimum=0)
    max_epochs = keras.config.max_epochs()
    if max_epochs and max_epochs < epochs:
        warnings.warn(f"Limiting epochs to {max_epochs}", stacklevel=2)
        epochs = max_epochs
    if not isinstance(shuffle, bool):
        raise ConfigError(
            f"shuffle must be True or False: received {shuffle!r}. Pass True for rows in another order each epoch."
        )
    initial_epoch = check_integer("initial_epoch", initial_epoch, minimum=0)
    data: Data | StreamedData | None = only_streamed(
        x, y=y, sample_weight=sample_weight, class_weight=class_weight, validation_split=validation_split or None
    )
    validation: Data | StreamedData | None = None
    if isinstance(validation_data, StreamedData):
        validation = validation_data
    elif validation_data is not None:
        validation = _validation_arrays(model, validation_data)
    if data is not None and options.sync_every > 1:
        raise ConfigError(
            f"sync_every={options.sync_every} does not fit StreamedData: expected 1, for a window's last step would "
            "synchronise, too. Leave it out."
        )
    if class_weight is not None and not isinstance(class_weight, Mapping):
        raise ConfigError(
            f"class_weight must be a dict of weights by class index: received {class_weight!r}. Give one, such as "
            "{0: 1.0, 1: 5.0}."
        )
    if data is None:
        data = as_dataset(with_texts(model, x), y, sample_weight, class_weight=class_weight)
        if validation is None and validation_split:
            data, validation = split_off_validation(data, validation_split)
            if class_weight is not None:
                # For the training alone, as in Keras.
                validation = validation[:2]
        check_targets(model, data)
    check_integer("initial_step", initial_step, minimum=0)
    if validation_batch_size is not None:
        validation_batch_size = check_integer("validation_batch_size", validation_batch_size, minimum=1)
    order_seed = _choose_seed(model, seed)
    with source_of(data, batch_size, order_seed if shuffle else None) as source:
        session = Session(model, source, validation, batch_size, validation_batch_size, options)
        hooks = callback_list(callbacks, model, verbose, epochs, session.num_steps)
        # Of all epochs, also of those before `initial_epoch`, so that a training that goes on is compiled as it began.
        session.prepare(hooks, num_epochs=epochs)
        with contextlib.closing(session):
            return _train(session, hooks, initial_epoch, initial_step, epochs)


def _train(
    session: Session,
    callbacks: keras.callbacks.CallbackList,
    initial_epoch: int,
    initial_step: int,
    epochs: int,
) -> keras.callbacks.History:
    model = session.model
    model.stop_training = False
    logs: Logs = {}
    callbacks.on_train_begin()
    # A callback such as BackupAndRestore may move the start.
    epoch = model._initial_epoch or initial_epoch
    while epoch < epochs:
        first = initial_step if epoch == initial_epoch else 0
        num_epochs, logs = session.run(epoch, first, epochs)
        epoch += num_epochs
        if session.should_stop():
            break
    if epochs > 0 and model.optimizer is not None:
        model.optimizer.finalize_variable_values(model.trainable_variables)
    callbacks.on_train_end(logs)
    return model.history


def _choose_seed(model: keras.Model, seed: int | None) -> int:
    if seed is not None:
        return check_integer("seed", seed, minimum=0)
    # NumPy's global generator, because that is the one `keras.utils.set_random_seed` seeds.
    return 0 if is_distributed(model) else int(np.random.randint(2**31))  # noqa: NPY002


def _validation_arrays(model: keras.Model, validation_data: tuple[Any, ...]) -> Data:
    if not isinstance(validation_data, tuple | list) or len(validation_data) not in (1, 2, 3):
        raise ConfigError(
            "validation_data must be (x, y) or (x, y, sample_weight): received "
            f"{type(validation_data).__name__}. Pass a tuple of two or three."
        )
    x, *others = validation_data
    data = as_dataset(with_texts(model, x), *others)
    check_targets(model, data)
    return data
