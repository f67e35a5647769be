"""Data sets as arrays, split and verified: `load("fashion-mnist").train.x`."""

from annlib.data.dataset import Dataset, Split, Standardization
from annlib.data.preparation import load

__all__ = ["Dataset", "Split", "Standardization", "load"]
