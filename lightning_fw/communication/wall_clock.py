"""A model of wall-clock time: what local windows save on a given interconnect.

All ranks compute a batch in c seconds and average n bytes. With latency α and bandwidth β,

    A      = r α + 2 (p − 1) / p · n / β         an all-reduce; r = 2 (p − 1) rounds on a ring,
                                                 2 ⌈log₂ p⌉ with recursive halving and doubling
    DDP    = c + max(0, A − o · 2c / 3)          a batch; o = 0: nothing overlaps, o = 1: all of the
                                                 backward pass, two thirds of c, does
    local  = f c + A / K                         a batch of a window of K; f: what the oracle adds

The adding up of n bytes, and ranks that wait for slower ones, cost nothing here.

Source: Thakur, Rabenseifner, Gropp (2005), "Optimization of Collective Communication Operations in
MPICH", sections 3 and 4.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from lightning_fw.checks import require_choice, require_count, require_positive

Algorithm = Literal["ring", "halving"]

# A backward pass costs twice the forward pass: a product for the inputs' gradient, one for the
# weights'.
_BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Ranks and what joins them.

    Args:
        ranks: p.
        bandwidth: β, of each rank, bytes a second.
        latency: α, of a message, seconds.
        algorithm: ``"ring"``, or ``"halving"``: recursive halving and doubling, whose rounds are
            those of a tree.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is not positive, or the algorithm unknown.

    Example:
        >>> link = Cluster(ranks=8, bandwidth=1.25e9, latency=2e-5)
        >>> f"{link.all_reduce_seconds(4 * 32_000_000):.3f}"
        '0.179'
    """

    ranks: int
    bandwidth: float
    latency: float
    algorithm: Algorithm = "halving"

    def __post_init__(self) -> None:
        require_count("ranks", self.ranks)
        require_positive("bandwidth", self.bandwidth)
        require_positive("latency", self.latency)
        require_choice("algorithm", self.algorithm, get_args(Algorithm))

    @property
    def latency_seconds(self) -> float:
        """r α: what an all-reduce of nothing takes."""
        rounds = self.ranks - 1 if self.algorithm == "ring" else math.ceil(math.log2(self.ranks))
        return 2 * rounds * self.latency

    def sent_bytes(self, size: float) -> float:
        """What a rank sends for an all-reduce of so many bytes."""
        return 2 * (self.ranks - 1) / self.ranks * size

    def all_reduce_seconds(self, size: float) -> float:
        """A of so many bytes."""
        return self.latency_seconds + self.sent_bytes(size) / self.bandwidth


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained.

    Args:
        parameters: Of 4 bytes each.
        seconds: c, to compute a batch.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is not positive.
    """

    parameters: int
    seconds: float

    def __post_init__(self) -> None:
        require_count("parameters", self.parameters)
        require_positive("seconds", self.seconds)

    @property
    def bytes(self) -> int:
        """n."""
        return 4 * self.parameters


@dataclass(frozen=True, kw_only=True)
class LocalWindows:
    """Windows of ranks apart, beside the run that they are compared with.

    Args:
        steps: K.
        batches: Those to the target, over those of the run compared with.
        overhead: f, seconds of computing a batch over those of the run compared with.

    Raises:
        TypeError: If a number is none.
        ValueError: If a number is not positive.
    """

    steps: int
    batches: float = 1.0
    overhead: float = 1.0

    def __post_init__(self) -> None:
        require_count("steps", self.steps)
        require_positive("batches", self.batches)
        require_positive("overhead", self.overhead)


def ddp_seconds(network: Network, cluster: Cluster, overlap: float = 0.0) -> float:
    """Seconds of a batch that ends with an all-reduce of the gradient.

    Args:
        network: What is trained.
        cluster: On what.
        overlap: o in [0, 1]: 0 and 1 are the bounds. The gradient of a recurrent layer is whole
            only where its backward pass through time ends, so that one layer is at 0.

    Raises:
        ValueError: If ``overlap`` is not in [0, 1].
    """
    return _ddp_seconds(network, cluster.all_reduce_seconds(network.bytes), overlap)


def local_seconds(network: Network, cluster: Cluster, windows: LocalWindows) -> float:
    """Seconds of a batch of local windows, with its share of the message."""
    return _local_seconds(network, cluster.all_reduce_seconds(network.bytes), windows)


def speed_up(
    network: Network, cluster: Cluster, windows: LocalWindows, overlap: float = 0.0
) -> float:
    """DDP's seconds to the target over those of local windows."""
    ddp = ddp_seconds(network, cluster, overlap)
    return ddp / (windows.batches * local_seconds(network, cluster, windows))


def break_even_bandwidth(network: Network, cluster: Cluster, windows: LocalWindows) -> float:
    """The bandwidth, in bytes a second, below which local windows beat DDP without any overlap.

    With b and f for batches and overhead: DDP's batch is the slower one where

        A > c (b f − 1) / (1 − b / K).

    Args:
        network: What is trained.
        cluster: On what; its own bandwidth does not matter.
        windows: What is compared with DDP.

    Returns:
        The bandwidth; infinity where they arrive first on the fastest interconnect, too, 0 where
        they do on none.
    """
    b, steps, fastest = windows.batches, windows.steps, cluster.latency_seconds
    if b >= steps:
        local = b * _local_seconds(network, fastest, windows)
        return math.inf if _ddp_seconds(network, fastest, 0.0) > local else 0.0
    message = network.seconds * (b * windows.overhead - 1) / (1 - b / steps)
    if message <= fastest:
        return math.inf
    return cluster.sent_bytes(network.bytes) / (message - fastest)


def _ddp_seconds(network: Network, message: float, overlap: float) -> float:
    if not 0 <= overlap <= 1:
        raise ValueError(
            f"`overlap` must be in [0, 1], got {overlap}. Pass the part of the backward pass that "
            "the all-reduce runs beside."
        )
    hidden = overlap * _BACKWARD_SHARE * network.seconds
    return network.seconds + max(0.0, message - hidden)


def _local_seconds(network: Network, message: float, windows: LocalWindows) -> float:
    return windows.overhead * network.seconds + message / windows.steps
