"""All sides train the same thing: one epoch of the same batches from the same weights, against NumPy."""

import dataclasses
import importlib

import numpy as np
import pytest

from annlib.benchmark.cases import BATCH_SIZE, CASES, Case, Examples, initial_weights
from annlib.benchmark.sides import SIDES
from annlib.data.batches import epoch_order

NUM_ROWS = 100  # the last batch is smaller
RATE = 0.05


def examples(case: Case) -> Examples:
    generator = np.random.default_rng(3)
    if case.num_classes:
        images = generator.integers(0, 256, (NUM_ROWS, 28, 28)).astype(np.uint8)
        return Examples(x=(images,), y=generator.integers(0, 10, NUM_ROWS).astype(np.uint8))
    all_x = generator.normal(size=(NUM_ROWS, 8)).astype(np.float32)
    x = (all_x,) if len(case.hidden) == 1 else (all_x[:, :5], all_x[:, -6:])
    return Examples(x=x, y=(all_x.sum(1) / 3).astype(np.float32))


def reference_losses(case: Case, train: Examples, epochs: int, batch_size: int = BATCH_SIZE) -> list[float]:
    """Backpropagation by hand, in float64."""
    weights = [(k.astype(np.float64), b.astype(np.float64)) for k, b in initial_weights(case, train)]
    x = [part.reshape(NUM_ROWS, -1) / (255.0 if part.dtype == np.uint8 else 1.0) for part in train.x]
    losses = []
    for epoch in range(epochs):
        order = epoch_order(NUM_ROWS, seed=0, epoch=epoch)
        total = 0.0
        for start in range(0, NUM_ROWS, batch_size):
            rows = order[start : start + batch_size]
            inputs = [x[-1][rows]]
            for kernel, bias in weights[:-1]:
                inputs.append(np.maximum(inputs[-1] @ kernel + bias, 0))
            num_wide = sum(part.shape[1] for part in x[:-1])
            inputs[-1] = np.concatenate([*(part[rows] for part in x[:-1]), inputs[-1]], axis=1)
            outputs = inputs[-1] @ weights[-1][0] + weights[-1][1]
            y = train.y[rows]
            if case.num_classes:
                shares = np.exp(outputs - outputs.max(1, keepdims=True))
                shares /= shares.sum(1, keepdims=True)
                total -= np.log(shares[np.arange(len(rows)), y]).sum()
                gradient = (shares - np.eye(10)[y]) / len(rows)
            else:
                total += ((outputs[:, 0] - y) ** 2).sum()
                gradient = 2 * (outputs - y[:, None]) / len(rows)
            for index in reversed(range(len(weights))):
                kernel, bias = weights[index]
                new = (kernel - RATE * inputs[index].T @ gradient, bias - RATE * gradient.sum(0))
                gradient = gradient @ kernel.T
                if index == len(weights) - 1:
                    gradient = gradient[:, num_wide:]
                    inputs[index] = inputs[index][:, num_wide:]
                gradient *= inputs[index] > 0
                weights[index] = new
        losses.append(total / NUM_ROWS)
    return losses


@pytest.mark.parametrize("side", ["annlib", "annlib-all", "jax", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_a_side_trains_as_numpy_does(name: str, side: str) -> None:
    found = SIDES[side]
    if not found.is_installed:
        pytest.skip(f"{found.requires} is not installed")
    case = dataclasses.replace(CASES[name], learning_rate=RATE)
    train = examples(case)
    module = importlib.import_module(f"annlib.benchmark.sides.{found.module}")
    trainer = getattr(module, found.trainer)(case, train, train, initial_weights(case, train))
    assert trainer.train(3) == pytest.approx(reference_losses(case, train, 3)[-1], rel=1e-4)


@pytest.mark.parametrize("side", ["keras", "sklearn"])
@pytest.mark.parametrize("name", CASES)
def test_a_side_that_shuffles_by_itself_does_too(name: str, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in SIDES[side].leaves_out:
        pytest.skip(f"{side} has no such model")
    case = dataclasses.replace(CASES[name], learning_rate=RATE)
    train = examples(case)
    module = importlib.import_module(f"annlib.benchmark.sides.{side}")
    # One batch holds all, so that the order does not matter.
    monkeypatch.setattr(module, "BATCH_SIZE", NUM_ROWS)
    trainer = module.Trainer(case, train, train, initial_weights(case, train))
    assert trainer.train(3) == pytest.approx(reference_losses(case, train, 3, NUM_ROWS)[-1], rel=1e-4)


def test_the_bare_training_of_annlib_and_keras_computes_the_loss_alone() -> None:
    case = CASES["regressor"]
    train = examples(case)
    for side in (SIDES["annlib"], SIDES["keras"]):
        module = importlib.import_module(f"annlib.benchmark.sides.{side.module}")
        trainer = module.Trainer(case, train, train, initial_weights(case, train))
        trainer.train(1)
        assert set(trainer._model.get_metrics_result()) == {"loss"}
