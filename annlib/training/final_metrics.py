"""The content of `metrics.json`."""

import contextlib
import importlib.metadata
import platform
from typing import Any

from annlib.config import RunConfig

_PACKAGES = ("annlib", "tensorflow", "keras", "ray", "numpy", "scikit-learn")


def final_metrics(config: RunConfig, result: dict[str, Any]) -> dict[str, Any]:
    """Returns what a finished run says of itself: metrics of the splits, epochs, time, workers, versions.

    Args:
        config: the run's configuration.
        result: what `train_worker` returned, on Ray with the summary of its attempts.
    """
    return {
        **result["metrics"],
        "epochs": result["epochs"],
        "stopped_early": result["epochs"] < config.epochs,
        "best": result["best"],
        "seconds": result["seconds"],
        "samples_per_s": result["samples_per_s"],
        # Of rank 0, in the process that trained.
        "peak_memory_bytes": result["peak_memory_bytes"],
        "num_workers": config.num_workers[1],
        **({"notes": result["notes"]} if result.get("notes") else {}),
        **{name: result[name] for name in ("attempts", "restarts", "world_sizes") if name in result},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
