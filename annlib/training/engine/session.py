"""The training of one model on one data set: which call of the compiled function does what."""

import contextlib
import functools
import math
import time
from collections.abc import Callable

import keras
import numpy as np

from annlib.errors import NonFiniteLossError
from annlib.training.engine.ahead import EpochsAhead, variables_of
from annlib.training.engine.batching import evaluation_batch_size
from annlib.training.engine.collectives import sum_over_replicas
from annlib.training.engine.compilation import is_distributed, overrides
from annlib.training.engine.hooks import (
    act_before_validation,
    compare_without_tensorflow,
    count_batches,
    react_to_logs,
    read_learning_rate,
    read_logs_alone,
    with_test_hooks,
)
from annlib.training.engine.metric_state import kept_metric_state
from annlib.training.engine.optimizers import current_learning_rate, inner_optimizers
from annlib.training.engine.options import StepOptions
from annlib.training.engine.packed_logs import Logs
from annlib.training.engine.program import NO_STEPS, Data, Steps, build, evaluation_program, training_program
from annlib.training.engine.sources import Source, StreamedData, bind_evaluation, num_samples

# Python (progress, callbacks, Ctrl-C) is met about this often within a long epoch.
CHUNK_S = 0.5
# Steps of a model's first chunks, after which its speed is known: few, for a step may take a second.
FIRST_CHUNK_STEPS = 8


class Session:
    """The training of one model on one data set; the arguments are those of `fit`, on the device or on disk."""

    def __init__(
        self,
        model: keras.Model,
        source: Source,
        validation: Data | StreamedData | None,
        batch_size: int,
        validation_batch_size: int | None,
        options: StepOptions,
    ) -> None:
        self.model = model
        self.num_steps = source.num_steps
        self._source = source
        self._validation = validation
        self._batch_size = batch_size
        self._validation_batch_size = validation_batch_size
        self._options = options
        self._is_distributed = is_distributed(model)
        self._has_own_step = overrides(model, keras.Model, "train_step")
        self._callbacks: keras.callbacks.CallbackList
        self._evaluation: Callable[[], Callable[[int, int], Logs]]
        self._ahead: EpochsAhead | None = None
        self._max_epochs = 1
        self._steps_at_once = 1
        self._validates_in_program = False
        self._validation_rows, self._num_validation_steps = 0, 0
        self._counts_batches = False
        self._compiled = False
        self._step_s: float | None = None

    def prepare(self, callbacks: keras.callbacks.CallbackList, *, num_epochs: int) -> None:
        """Builds the model and chooses how its epochs run; the callbacks are told from now on."""
        build(self.model, self._source.sample)
        self._callbacks = callbacks
        self._counts_batches = self._on_any_replica(count_batches(callbacks))
        rows = self._validation_batch_size or evaluation_batch_size(self.model, self._batch_size)
        self._validation_rows = rows
        at_once: Data | None = None
        validation = self._validation
        if validation is not None:
            self._num_validation_steps = math.ceil(num_samples(validation) / rows)
            num_steps = num_epochs * self._num_validation_steps
            self._evaluation = functools.cache(
                functools.partial(_bind_evaluation, self.model, validation, rows, num_steps)
            )
            # Collectives of the training and of the validation in one function wait for each other for good.
            if not (isinstance(validation, StreamedData) or self._is_distributed or act_before_validation(callbacks)):
                at_once = validation
        self._validates_in_program = at_once is not None
        # A step of the user's own may change what is no variable of the model, such as a second optimizer.
        reacts = react_to_logs(callbacks)
        can_run_ahead = read_logs_alone(callbacks) and not (reacts and self._has_own_step)
        # In another thread, Python's and TensorFlow's eager random numbers would be others.
        can_run_ahead = can_run_ahead and not self.model.run_eagerly
        # The rate of a schedule is that of the steps that have run.
        can_run_ahead = can_run_ahead and not (read_learning_rate(callbacks) and None in self._learning_rates())
        if can_run_ahead and not self._is_distributed and (validation is None or self._validates_in_program):
            self._max_epochs = self._source.most_epochs_at_once
        program = training_program(
            self.model,
            self._batch_size,
            rows,
            max_epochs=self._max_epochs,
            num_steps=num_epochs * (self.num_steps + self._num_validation_steps),
            options=self._options,
        )
        self._steps_at_once = program.steps_at_once
        self._source.bind(program, at_once)
        if reacts and not program.knows_all_state([*variables_of(self.model), *self.model.metrics_variables]):
            # Such as a tf.Variable of a layer, which could not be taken back.
            self._max_epochs = 1
        if self._max_epochs > 1:
            self._ahead = EpochsAhead(self.model, self._run_whole_epochs, can_go_back=reacts)

    def close(self) -> None:
        """Waits for epochs that still run."""
        if self._ahead is not None:
            self._ahead.close()
            # It knows this session: the data would stay until Python looks for cycles.
            self._ahead = None

    def run(self, epoch: int, first: int, last_epoch: int) -> tuple[int, Logs]:
        """Runs one epoch from the step `first` on, or several whole ones.

        Returns:
            How many epochs, and the logs of the last one.
        """
        num_epochs = 1 if first else self._num_epochs_at_once(last_epoch - epoch)
        if self._ahead is None or num_epochs == 1:
            return 1, self._run_epoch(epoch, first)
        return self._run_epochs(self._ahead, epoch, num_epochs, last_epoch)

    def _num_epochs_at_once(self, remaining: int) -> int:
        """Returns how many epochs the next call runs, so that it takes no longer than a chunk."""
        if self._max_epochs == 1 or self._step_s is None or len(self._validation_parts()) > 1:
            return 1
        fitting = int(CHUNK_S / (self._step_s * self.num_steps))
        return max(1, min(self._max_epochs, remaining, fitting))

    def _run_whole_epochs(self, epoch: int, num_epochs: int) -> list[tuple[Logs, Logs]]:
        return self._source.run(
            epoch, 0, self.num_steps, num_epochs=num_epochs, begins=True, validates=self._validation_with_training()
        )

    def _run_epochs(self, ahead: EpochsAhead, epoch: int, num_epochs: int, last_epoch: int) -> tuple[int, Logs]:
        """Runs several whole epochs in one call, and tells of them while the next ones run."""
        block = ahead.take(epoch, num_epochs)
        num_next = self._num_epochs_at_once(last_epoch - epoch - num_epochs)
        if num_next > 1:
            ahead.start(epoch + num_epochs, num_next)
        rates = self._learning_rates()
        compare_without_tensorflow(self._callbacks)
        logs: Logs = {}
        for offset, (logs, validation_logs) in enumerate(block.results.result()):
            self._check_finite(logs, epoch + offset)
            self._callbacks.on_epoch_begin(epoch + offset)
            self._callbacks.on_train_batch_begin(0)
            self._callbacks.on_train_batch_end(self.num_steps - 1, logs)
            logs = self._end_epoch(epoch + offset, logs, validation_logs)
            if ahead.can_go_back and (self.model.stop_training or self._learning_rates() != rates):
                rates = self._learning_rates()
                ahead.go_back(block, offset + 1)
                for optimizer, rate in zip(inner_optimizers(self.model.optimizer), rates, strict=True):
                    if rate is not None:
                        optimizer.learning_rate = rate
                return offset + 1, logs
        return num_epochs, logs

    def _learning_rates(self) -> tuple[float | None, ...]:
        """Returns the learning rate of each optimizer that callbacks can change; None where a schedule decides."""
        rates = [optimizer._learning_rate for optimizer in inner_optimizers(self.model.optimizer)]
        return tuple(float(rate.numpy()) if isinstance(rate, keras.Variable) else None for rate in rates)

    def _run_epoch(self, epoch: int, first: int) -> Logs:
        """Runs one epoch from the step `first` on, in chunks; returns its logs."""
        callbacks = self._callbacks
        callbacks.on_epoch_begin(epoch)
        logs: Logs = {}
        validation_logs: Logs = {}
        begins = first == 0
        if first == self.num_steps:
            # An earlier training came to its validation.
            logs = self._source.run(epoch, first, first, begins=False, validates=NO_STEPS)[0][0]
        while first < self.num_steps and not (first and self.model.stop_training and not self._is_distributed):
            last = min(self._end_of_chunk(first), self.num_steps)
            callbacks.on_train_batch_begin(first)
            started = time.perf_counter()
            validates = self._validation_with_training() if last == self.num_steps else NO_STEPS
            logs, validation_logs = self._source.run(epoch, first, last, begins=begins, validates=validates)[0]
            self._learn_speed(first, last, time.perf_counter() - started)
            self._check_finite(logs, epoch)
            callbacks.on_train_batch_end(last - 1, logs)
            first, begins = last, False
        return self._end_epoch(epoch, logs, validation_logs)

    def _end_epoch(self, epoch: int, logs: Logs, validation_logs: Logs) -> Logs:
        """Validates, where that has not been done with the last steps, and tells the callbacks."""
        if self._validation is not None:
            metrics = self._tell_of_validation(validation_logs) if validation_logs else self._validate(epoch)
            logs = logs | {f"val_{name}": value for name, value in metrics.items()}
        self._callbacks.on_epoch_end(epoch, logs)
        return logs

    def _tell_of_validation(self, logs: Logs) -> Logs:
        return with_test_hooks(self._callbacks, [(0, self._num_validation_steps)], lambda first, last: logs)

    def _validate(self, epoch: int) -> Logs:
        def run_in_program(first: int, last: int) -> Logs:
            end = self.num_steps
            return self._source.run(epoch, end, end, begins=False, validates=(first, last))[0][1]

        parts = self._validation_parts()
        evaluate = run_in_program if self._validates_in_program else self._evaluation()
        with kept_metric_state(self.model) if len(parts) > 1 else contextlib.nullcontext():
            return with_test_hooks(self._callbacks, parts, evaluate)

    def _validation_with_training(self) -> Steps:
        """Returns the steps of a validation that is part of the call of an epoch's last steps."""
        parts = self._validation_parts() if self._validates_in_program else []
        return parts[0] if len(parts) == 1 else NO_STEPS

    def _validation_parts(self) -> list[Steps]:
        """Returns the parts of a validation, each of which takes no longer than a chunk."""
        num_steps = self._num_validation_steps
        # For as many rows, it takes no longer than the training.
        seconds = (self._step_s or 0.0) * self._validation_rows / self._batch_size
        size = max(1, round(CHUNK_S / seconds) if seconds else num_steps)
        return [(first, min(first + size, num_steps)) for first in range(0, num_steps, size)]

    def should_stop(self) -> bool:
        """Tells whether a callback asked to stop; all workers get the same answer, so that none waits for another."""
        self.model.stop_training = self._on_any_replica(self.model.stop_training)
        return bool(self.model.stop_training)

    def _on_any_replica(self, value: bool) -> bool:
        if not self._is_distributed:
            return bool(value)
        return sum_over_replicas(self.model.distribute_strategy, [float(value)])[0] > 0

    def _end_of_chunk(self, first: int) -> int:
        """Returns the step after the last one of a chunk, which may lie beyond the epoch."""
        # Replicas that take steps by themselves have the same weights again at the end of a chunk.
        multiple = self._options.sync_every
        # Keras takes this one more where a callback has asked to stop before the epoch's first.
        if self._counts_batches or (self.model.stop_training and not self._is_distributed):
            num_steps = int(self.model.steps_per_execution)
        else:
            num_steps = FIRST_CHUNK_STEPS if self._step_s is None else max(1, round(CHUNK_S / self._step_s))
            # The same steps are run at once, however fast they are: others would be rounded otherwise.
            multiple = max(multiple, self._steps_at_once)
        return math.ceil((first + num_steps) / multiple) * multiple

    def _learn_speed(self, first: int, last: int, seconds: float) -> None:
        # The very first call also traces and compiles, so its time says nothing about the steps.
        if not self._compiled:
            self._compiled = True
            return
        step_s = seconds / (last - first)
        if self._is_distributed:
            # A chunk ends with a collective, so all workers need chunks of the same size. They agree on one speed,
            # once: clocks differ.
            if self._step_s is not None:
                return
            strategy = self.model.distribute_strategy
            step_s = sum_over_replicas(strategy, [step_s])[0] / strategy.num_replicas_in_sync
        self._step_s = step_s

    def _check_finite(self, logs: Logs, epoch: int) -> None:
        loss = logs.get("loss")
        if loss is None or np.all(np.isfinite(loss)):
            return
        optimizer = self.model.optimizer
        rate = current_learning_rate(optimizer) if optimizer is not None else math.nan
        raise NonFiniteLossError(
            f"the loss became {loss} in epoch {epoch + 1} with learning rate {rate:g}: expected a finite loss. Try a "
            "smaller learning rate, or clipnorm=1.0 in the optimizer, and check the data for huge or missing values."
        )


def _bind_evaluation(
    model: keras.Model, validation: Data | StreamedData, batch_size: int, num_steps: int
) -> Callable[[int, int], Logs]:
    return bind_evaluation(evaluation_program(model, batch_size, num_steps=num_steps), validation, batch_size)
