"""Rules that close a window before its last step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lightning_fw.checks import require_number
from lightning_fw.tensors.scalars import Scalar


class Progress(NamedTuple):
    """Where an open window stands after an inner step.

    Attributes:
        k: Inner steps taken.
        gap: Frank-Wolfe gap at the step.
        first_gap: Gap at the window's first step taken.
        length: ‖d_k‖₂ / δ over all parameters.
        noise: The length that atoms of independent directions would leave: √q_k with
            q_k = (1 − γ_k)² q_{k−1} + γ_k² ‖s_k‖₂² / δ².
    """

    k: Scalar
    gap: Scalar
    first_gap: Scalar
    length: Scalar
    noise: Scalar


class RestartRule(ABC):
    """Decides after every inner step whether to close the window.

    The decision is read on the host, one synchronization a step, and under several ranks it is
    taken together: the window closes when any rank wants it.

    Example:
        >>> class GapBelow(RestartRule):
        ...     def __call__(self, progress):
        ...         return progress.gap < 1e-3
        >>> GapBelow()(Progress(k=3, gap=1e-4, first_gap=1.0, length=0.8, noise=0.6))
        True
    """

    @abstractmethod
    def __call__(self, progress: Progress) -> Scalar:
        """A true value closes the window."""


def closes(rule: RestartRule, progress: Progress) -> bool:
    """Whether a rule closes the window; reads the device.

    Raises:
        TypeError: If it tells neither.
    """
    told = rule(progress)
    several = isinstance(told, Tensor) and told.numel() != 1
    if told is None or isinstance(told, str) or several:
        raise TypeError(
            f"`restart_when` must give True or False, got {told!r}. Return one of these from "
            f"{type(rule).__name__}."
        )
    return bool(told)


@dataclass(frozen=True)
class GapFraction(RestartRule):
    """Close when the gap has fallen to a fraction of its first value.

    On mini-batches the gap is an overestimate, and noise keeps it up; with whitening it may be 0.

    Args:
        fraction: In (0, 1).

    Raises:
        TypeError: If ``fraction`` is not a number.
        ValueError: If ``fraction`` is not in (0, 1).

    Example:
        >>> GapFraction(0.1)(Progress(k=3, gap=0.05, first_gap=1.0, length=0.8, noise=0.6))
        True
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        require_number("fraction", self.fraction)
        if not 0 < self.fraction < 1:
            raise ValueError(
                f"`fraction` must be in (0, 1), got {self.fraction}. Pass 0 < fraction < 1."
            )

    def __call__(self, progress: Progress) -> Scalar:
        return progress.gap <= self.fraction * progress.first_gap


@dataclass(frozen=True)
class NoiseFloor(RestartRule):
    """Close when the displacement is as short as if the atoms were noise.

    Atoms that agree lead as far as each of them reaches; independent ones leave d_k at √q_k, which
    for atoms of one length and γ = 1/k is 1/√k of it. Lengths are l2 lengths, whatever the ball.

    Args:
        factor: Close at ‖d_k‖₂ / δ ≤ factor · √q_k, from the second step on; a factor ≥ 1.

    Raises:
        TypeError: If ``factor`` is not a number.
        ValueError: If ``factor`` is below 1: lengths hardly ever fall under the noise.

    Example:
        >>> NoiseFloor(1.1)(Progress(k=4, gap=0.5, first_gap=1.0, length=0.52, noise=0.5))
        True
    """

    factor: float = 1.1

    def __post_init__(self) -> None:
        require_number("factor", self.factor)
        if not self.factor >= 1:
            raise ValueError(f"`factor` must be at least 1, got {self.factor}. Pass factor >= 1.")

    def __call__(self, progress: Progress) -> Scalar:
        return (progress.k >= 2) & (progress.length <= self.factor * progress.noise)
