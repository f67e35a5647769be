"""How a training step is computed, for models that are large and replicas that are far apart."""

import dataclasses

import keras

from annlib.config import Compression
from annlib.errors import ConfigError
from annlib.training.engine.compilation import overrides


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of a training step; the defaults are the fastest for a model that fits, on a fast network.

    Args:
        gradient_accumulation: micro-batches that each replica computes its part of a global batch in, one after the
            other, before its gradient is reduced and applied. Takes less memory, and gives the same curve, except that
            batch normalisation sees micro-batches.
        compression: type of the gradients while they are summed over the replicas.
        sync_every: steps that each replica takes by itself on its rows, until weights and the optimizer's state are
            averaged: local SGD (Stich, Local SGD Converges Fast and Communicates Little, ICLR 2019). 1 sums gradients
            instead, in each step.
    """

    gradient_accumulation: int = 1
    compression: Compression = "none"
    sync_every: int = 1

    def check(self, model: keras.Model) -> None:
        """Raises ConfigError where the model cannot be trained so."""
        if self.gradient_accumulation > 1 and overrides(model, keras.Model, "train_step"):
            raise ConfigError(
                f"{type(model).__name__} has a train_step of its own: expected the standard one with "
                f"gradient_accumulation={self.gradient_accumulation}. Leave it out."
            )
