"""Training on Ray: the cluster, the workers, and what passes between them and the driver. Only here ray is imported."""

from annlib.training.distributed.cluster import cluster, connection
from annlib.training.distributed.launch import train

__all__ = ["cluster", "connection", "train"]
