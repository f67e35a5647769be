"""Whole epochs that run ahead of the callbacks' hooks, and are taken back where a callback changes the training.

While the device works on a block of epochs, Python calls the hooks of the block before: for epochs of milliseconds the
callbacks would take longer than the training. A callback that looks at the logs alone cannot tell. Where it stops the
training or changes the learning rate, the model goes back to where it was before the block, and runs the epochs up to
there again, in the same order.
"""

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from annlib.training.engine.packed_logs import Logs

Results = list[tuple[Logs, Logs]]
State = list[np.ndarray[Any, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """Epochs that were started together.

    Args:
        epoch: number of the first one.
        num_epochs: how many.
        before: the model's state before them; None where nothing is ever taken back.
        results: logs of each epoch and of its validation, when they have run.
    """

    epoch: int
    num_epochs: int
    before: State | None
    results: Future[Results]


def variables_of(model: keras.Model) -> list[keras.Variable]:
    """Returns the state that can be taken back: the model's and its optimizer's."""
    return [*model.variables, *(model.optimizer.variables if model.optimizer is not None else [])]


class EpochsAhead:
    """Runs blocks of epochs in a thread.

    Args:
        model: what is trained.
        run: runs so many epochs from one on.
        can_go_back: False spares the copies of the model's state.
    """

    def __init__(self, model: keras.Model, run: Callable[[int, int], Results], *, can_go_back: bool) -> None:
        self.can_go_back = can_go_back
        self._run = run
        self._variables = variables_of(model)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="annlib-epochs")
        self._next: Block | None = None

    def close(self) -> None:
        """Waits for what still runs."""
        self._thread.shutdown(cancel_futures=True)

    def take(self, epoch: int, num_epochs: int) -> Block:
        """Returns the block that was started, or starts it; waits until it has run."""
        block = self._next or self._start(epoch, num_epochs)
        self._next = None
        assert (block.epoch, block.num_epochs) == (epoch, num_epochs)
        block.results.result()
        return block

    def start(self, epoch: int, num_epochs: int) -> None:
        """Starts the block after the one that was taken."""
        self._next = self._start(epoch, num_epochs)

    def _start(self, epoch: int, num_epochs: int) -> Block:
        # Copies, for the device may write to the variables' own memory.
        before = [np.array(variable.value) for variable in self._variables] if self.can_go_back else None
        results = self._thread.submit(self._run, epoch, num_epochs)
        return Block(epoch=epoch, num_epochs=num_epochs, before=before, results=results)

    def go_back(self, block: Block, num_epochs: int) -> None:
        """Brings the model to where it was after the first `num_epochs` of a block that was taken last."""
        following, self._next = self._next, None
        if following is not None:
            following.results.result()
        if num_epochs < block.num_epochs:
            self._restore(block.before)
            self._run(block.epoch, num_epochs)
        elif following is not None:
            self._restore(following.before)

    def _restore(self, state: State | None) -> None:
        assert state is not None
        for variable, value in zip(self._variables, state, strict=True):
            variable.assign(value)
