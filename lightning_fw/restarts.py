"""Rules that close a window before its last step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from lightning_fw.scalars import Scalar


class Progress(NamedTuple):
    """Where an open window stands after an inner step.

    Attributes:
        k: Inner steps taken.
        gap: Frank-Wolfe gap at the step.
        first_gap: Gap at the window's first step.
        usage: ‖d_k‖ / δ, averaged over the balls that the parameters span.
        noise: The usage that atoms of independent directions would have: √q_k with
            q_k = (1 − γ_k)² q_{k−1} + γ_k², which is 1/√k for γ = 1/k.
    """

    k: Scalar
    gap: Scalar
    first_gap: Scalar
    usage: Scalar
    noise: Scalar


class RestartRule(ABC):
    """Decides after every inner step whether to close the window.

    The decision is read on the host, one synchronization a step, and under several ranks it is
    taken together: the window closes when any rank wants it.
    """

    @abstractmethod
    def __call__(self, progress: Progress) -> Scalar:
        """A true value closes the window."""


@dataclass(frozen=True)
class GapFraction(RestartRule):
    """Close when the gap has fallen to a fraction of its first value.

    On mini-batches the gap is an overestimate, and noise keeps it up.

    Args:
        fraction: In (0, 1).

    Raises:
        ValueError: If ``fraction`` is not in (0, 1).

    Example:
        >>> GapFraction(0.1)(Progress(k=3, gap=0.05, first_gap=1.0, usage=0.8, noise=0.6))
        True
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise ValueError(
                f"`fraction` must be in (0, 1), got {self.fraction}. Pass 0 < fraction < 1."
            )

    def __call__(self, progress: Progress) -> Scalar:
        return progress.gap <= self.fraction * progress.first_gap


@dataclass(frozen=True)
class NoiseFloor(RestartRule):
    """Close when ball usage shows that the atoms have become noise.

    Atoms that agree use the whole ball; independent ones leave d_k at √q_k of it, 1/√k for
    γ = 1/k.

    Args:
        factor: Close at usage ≤ factor · √q_k, from the second step on; a factor ≥ 1.

    Raises:
        ValueError: If ``factor`` is below 1: usage hardly ever falls under the noise.

    Example:
        >>> NoiseFloor(1.1)(Progress(k=4, gap=0.5, first_gap=1.0, usage=0.52, noise=0.5))
        True
    """

    factor: float = 1.1

    def __post_init__(self) -> None:
        if not self.factor >= 1:
            raise ValueError(f"`factor` must be at least 1, got {self.factor}. Pass factor >= 1.")

    def __call__(self, progress: Progress) -> Scalar:
        return (progress.k >= 2) & (progress.usage <= self.factor * progress.noise)
