"""Train Keras 3 models fast, the same on one machine and on a Ray cluster.

`annlib.fit(model, x, y, ...)` takes what `keras.Model.fit` takes and gives the same losses; `annlib.load(run)` returns
the model that a run trained. A `Workload` of a `Dataset` and a model of your own is trained by `jobs/train.py`.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["Dataset", "Split", "StepOptions", "Workload", "evaluate", "fit", "load", "predict"]


def __getattr__(name: str) -> Any:
    # TensorFlow takes seconds to import: a command that only prints its help must not wait for it.
    if name == "load":
        from annlib import loading

        return loading.load
    if name in ("Dataset", "Split"):
        from annlib import data

        return getattr(data, name)
    if name == "Workload":
        from annlib.training.workload import Workload

        return Workload
    if name in __all__:
        from annlib.training import engine

        return getattr(engine, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
