"""Who is timed: a file for each framework, with plain code that is written as well as annlib's."""

import dataclasses
import importlib.util
from collections.abc import Mapping
from typing import Protocol

from annlib.benchmark.cases import Case, Examples, Weights


class Trainer(Protocol):
    """The training of one case by one framework. Making it takes (case, training split, validation split, weights)."""

    def __init__(self, case: Case, train: Examples, validation: Examples, weights: Weights) -> None: ...

    def train(self, epochs: int) -> float | None:
        """Trains on, from the weights it has; returns the mean loss of the last epoch, None where there is none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """Where a trainer is.

    Args:
        label: what the table calls it.
        module: in this package; the time of its import is that of the framework.
        trainer: the class there.
        requires: the framework's package.
        leaves_out: cases that the framework has no model for.
    """

    label: str
    module: str
    requires: str
    trainer: str = "Trainer"
    leaves_out: tuple[str, ...] = ()

    @property
    def is_installed(self) -> bool:
        """Tells whether the framework can be imported here."""
        return importlib.util.find_spec(self.requires) is not None


SIDES: Mapping[str, Side] = {
    "keras": Side(label="keras.Model.fit", module="keras", requires="keras"),
    "annlib": Side(label="annlib", module="annlib", requires="tensorflow"),
    "annlib-all": Side(
        label="annlib, all included", module="annlib", trainer="AllIncludedTrainer", requires="tensorflow"
    ),
    "jax": Side(label="JAX lax.scan", module="jax", requires="jax"),
    "torch": Side(label="PyTorch", module="torch", requires="torch"),
    "sklearn": Side(label="scikit-learn", module="sklearn", requires="sklearn", leaves_out=("wide-deep",)),
    "gemm": Side(label="matrix products alone", module="gemm", requires="numpy"),
}
