"""Data sets as arrays, split and verified: `load("fashion-mnist").train.x`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from annlib.data.dataset import Dataset, Split, Standardization
    from annlib.data.preparation import load

__all__ = ["Dataset", "Split", "Standardization", "load"]


def __getattr__(name: str) -> Any:
    # NumPy and what reads files would be half of the time in which a command prints its help.
    if name == "load":
        from annlib.data import preparation

        return preparation.load
    if name in __all__:
        from annlib.data import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
