"""annlib against `keras.Model.fit` and other frameworks, and on several workers: what `jobs/benchmark.py` runs."""

from annlib.benchmark.cases import CASES
from annlib.benchmark.guard import guard
from annlib.benchmark.run import SCALING, run

__all__ = ["CASES", "SCALING", "guard", "run"]
