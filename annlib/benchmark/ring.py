"""A model of scaling: the ring all-reduce formula, fitted to measurements, and what it predicts for other networks.

p workers that sum n bytes in a ring take T = 2 (p - 1) alpha + 2 (p - 1) / p * n / B: each sends 2 (p - 1) messages of
n / p bytes, a message has the latency alpha, and B bytes pass a second. Gathering n bytes, n / p of each, takes half of
that.

R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH", International
Journal of High Performance Computing Applications 19(1), 2005. P. Patarasuk, X. Yuan, "Bandwidth Optimal All-reduce
Algorithms for Clusters of Workstations", Journal of Parallel and Distributed Computing 69(2), 2009.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """What connects neighbours of the ring.

    Args:
        alpha_s: latency of a message in seconds.
        s_per_byte: seconds a byte takes, 1 / B.
    """

    alpha_s: float
    s_per_byte: float

    def all_reduce_s(self, num_bytes: float, num_workers: int) -> float:
        """Returns the seconds that the ring takes to sum so many bytes."""
        messages = 2 * (num_workers - 1)
        return messages * self.alpha_s + messages / num_workers * num_bytes * self.s_per_byte

    def all_gather_s(self, num_bytes: float, num_workers: int) -> float:
        """Returns the seconds that the ring takes to gather so many bytes of all workers together."""
        return self.all_reduce_s(num_bytes, num_workers) / 2

    def after(self, other: "Link") -> "Link":
        """Returns the link of which each message passes this one and the other, one after the other."""
        return Link(alpha_s=self.alpha_s + other.alpha_s, s_per_byte=self.s_per_byte + other.s_per_byte)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compute:
    """What a step takes without communication: a fixed part, and a part for each row of the batch.

    Args:
        fixed_s: seconds of the fixed part.
        row_s: seconds a row.
    """

    fixed_s: float
    row_s: float

    def step_s(self, rows: float) -> float:
        """Returns the seconds of a step on so many rows."""
        return self.fixed_s + self.row_s * rows


# One way, between two hosts through one switch; assumptions, typical of what vendors and papers give: kernel TCP for
# Ethernet, RDMA for RoCE. 90 % of the line rate is left for data.
NETWORKS: Mapping[str, Link] = {
    "10 GbE, TCP (30 µs, 1.1 GB/s)": Link(alpha_s=30e-6, s_per_byte=1 / 1.1e9),
    "25 GbE, TCP (20 µs, 2.8 GB/s)": Link(alpha_s=20e-6, s_per_byte=1 / 2.8e9),
    "100 GbE, RoCE (3 µs, 11 GB/s)": Link(alpha_s=3e-6, s_per_byte=1 / 11e9),
}


def fit_link(num_bytes: Sequence[float], seconds: Sequence[float], num_workers: int) -> Link:
    """Returns the latency and bandwidth, 0 or more, that explain all-reduces of several sizes best.

    Args:
        num_bytes: the sizes, two or more.
        seconds: what each took.
        num_workers: of the ring, 2 or more.
    """
    messages = 2 * (num_workers - 1)
    columns = [np.full(len(num_bytes), messages), messages / num_workers * np.asarray(num_bytes, np.float64)]
    alpha_s, s_per_byte = _fit(columns, seconds)
    return Link(alpha_s=alpha_s, s_per_byte=s_per_byte)


def fit_compute(rows: Sequence[float], seconds: Sequence[float]) -> Compute:
    """Returns the fixed part and the part a row, 0 or more, that explain steps on several numbers of rows best."""
    fixed_s, row_s = _fit([np.ones(len(rows)), np.asarray(rows, np.float64)], seconds)
    return Compute(fixed_s=fixed_s, row_s=row_s)


def _fit(columns: list[npt.NDArray[Any]], seconds: Sequence[float]) -> tuple[float, float]:
    """Fits by relative errors, for the times differ by orders of magnitude."""
    from scipy.optimize import nnls

    # Scaled, because the two unknowns differ by orders of magnitude as well.
    relative = np.stack(columns, axis=1) / np.asarray(seconds)[:, None]
    scale = relative.max(axis=0)
    first, second = nnls(relative / scale, np.ones(len(seconds)))[0] / scale
    return float(first), float(second)
