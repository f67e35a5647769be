"""PyTorch: the usual loop, without what makes it slow (a DataLoader, a `.item()` each step)."""

import time
from typing import Any

import torch

from annlib.benchmark.cases import BATCH_SIZE, Case, Examples, Weights
from annlib.data.batches import epoch_order


class _Model(torch.nn.Module):  # type: ignore[misc]
    def __init__(self, weights: Weights) -> None:
        super().__init__()
        layers = []
        for kernel, bias in weights:
            layer = torch.nn.Linear(*kernel.shape)
            layer.weight.data = torch.from_numpy(kernel.T.copy())
            layer.bias.data = torch.from_numpy(bias.copy())
            layers.append(layer)
        self.hidden = torch.nn.ModuleList(layers[:-1])
        self.output = layers[-1]

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
        hidden = x[-1]
        for layer in self.hidden:
            hidden = torch.relu(layer(hidden))
        return self.output(hidden if len(x) == 1 else torch.cat([*x[:-1], hidden], dim=1))


class Trainer:
    """Trains on tensors in memory, with one thread or all of them, whichever is faster."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None:
        self._learning_rate = case.learning_rate
        self._x = [torch.from_numpy(part) for part in train.flat_x]
        self._loss: Any
        if case.num_classes:
            self._y = torch.from_numpy(train.y.astype("int64"))
            self._loss = torch.nn.functional.cross_entropy
        else:
            self._y = torch.from_numpy(train.y.astype("float32")[:, None])
            self._loss = torch.nn.functional.mse_loss
        torch.set_num_threads(min({1, torch.get_num_threads()}, key=lambda count: self._try_threads(count, weights)))
        self._start(weights)

    def _start(self, weights: Weights) -> None:
        self._model = _Model(weights)
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=self._learning_rate, fused=True)

    def _try_threads(self, count: int, weights: Weights) -> float:
        """Returns the seconds of a few steps with so many threads."""
        torch.set_num_threads(count)
        self._start(weights)
        rows = torch.arange(20 * BATCH_SIZE) % len(self._y)
        self._train_epoch(rows[:BATCH_SIZE])
        started = time.perf_counter()
        self._train_epoch(rows)
        return time.perf_counter() - started

    def train(self, epochs: int) -> float:
        """Trains on; returns the loss of the last epoch."""
        for epoch in range(epochs):
            loss = self._train_epoch(torch.from_numpy(epoch_order(len(self._y), seed=0, epoch=epoch)))
        return float(loss)

    def _train_epoch(self, rows: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(())
        for batch in rows.split(BATCH_SIZE):
            self._optimizer.zero_grad()
            loss = self._loss(self._model([part[batch] for part in self._x]), self._y[batch])
            loss.backward()
            self._optimizer.step()
            total += loss.detach() * len(batch)
        return total / len(rows)
