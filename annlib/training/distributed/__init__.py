"""Training on Ray: the cluster, the workers, and what passes between them and the driver. Only here ray is imported."""

from typing import Any

from annlib.training.distributed.cluster import check_address, cluster, connection, running_address

__all__ = ["check_address", "cluster", "connection", "running_address", "train"]


def __getattr__(name: str) -> Any:
    # Ray's part for TensorFlow imports it, which takes seconds: who only connects must not wait for that.
    if name == "train":
        from annlib.training.distributed import launch

        return launch.train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
