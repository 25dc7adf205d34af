"""The weight γ_k that the newest atom gets: d_k = (1 − γ_k) d_{k−1} + γ_k s_k."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from lightning_fw.checks import require_number, require_positive
from lightning_fw.tensors.scalars import Scalar, at_least, at_most, scalar

# Keeps 0 / 0 at 0 where the displacement already stands on the atom: any γ is right there.
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class StepSize(ABC):
    """A rule for γ_k in [0, 1]; displacements then stay in the ball, which is convex.

    Attributes:
        needs_gap: Whether the rule reads ``gap`` and ``squared_distance``, which cost a pass over
            the parameters; they are None otherwise.

    Example:
        >>> class InverseRoot(StepSize):
        ...     def __call__(self, k, gap, squared_distance):
        ...         return k**-0.5
        >>> InverseRoot()(4, None, None)
        0.5
    """

    needs_gap: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, k: Scalar, gap: Scalar | None, squared_distance: Scalar | None) -> Scalar:
        """γ_k.

        Args:
            k: Index of the inner step, from 1; skipped steps do not count.
            gap: Frank-Wolfe gap ⟨g_k, d_{k−1} − s_k⟩.
            squared_distance: ‖d_{k−1} − s_k‖₂².
        """


@dataclass(frozen=True)
class Harmonic(StepSize):
    """γ_k = 1 / k: d_K is the mean of the K atoms.

    Source: Yue, Li, Saligrama, Zhang (2020), arXiv:2010.05397.

    Example:
        >>> Harmonic()(4, None, None)
        0.25
    """

    def __call__(self, k: Scalar, gap: Scalar | None, squared_distance: Scalar | None) -> Scalar:
        return 1 / k


@dataclass(frozen=True)
class OpenLoop(StepSize):
    """γ_k = 2 / (k + 1): newer atoms weigh more, and the gap of a convex loss falls like 1 / k.

    Source: Jaggi (2013), "Revisiting Frank-Wolfe: Projection-Free Sparse Convex Optimization".

    Example:
        >>> OpenLoop()(3, None, None)
        0.5
    """

    def __call__(self, k: Scalar, gap: Scalar | None, squared_distance: Scalar | None) -> Scalar:
        return 2 / (k + 1)


@dataclass(frozen=True)
class ConstantStep(StepSize):
    """γ_k = γ: an exponential average of the atoms; γ = 1 keeps the newest alone.

    Args:
        gamma: 0 < γ ≤ 1.

    Raises:
        TypeError: If ``gamma`` is not a number.
        ValueError: If ``gamma`` is not in (0, 1].

    Example:
        >>> ConstantStep(0.5)(7, None, None)
        0.5
    """

    gamma: float = 0.5

    def __post_init__(self) -> None:
        require_number("gamma", self.gamma)
        if not 0 < self.gamma <= 1:
            raise ValueError(
                f"`gamma` must be in (0, 1], got {self.gamma}. "
                "Pass 0 < gamma <= 1: a displacement outside leaves the ball."
            )

    def __call__(self, k: Scalar, gap: Scalar | None, squared_distance: Scalar | None) -> Scalar:
        return self.gamma


@dataclass(frozen=True)
class ShortStep(StepSize):
    """γ_k = min(1, gap / (L ‖d_{k−1} − s_k‖₂²)): the minimum of the quadratic upper bound.

    Source: Demyanov, Rubinov (1970); Jaggi (2013).

    Args:
        lipschitz: L > 0, a Lipschitz constant of the gradient in the l2 norm.

    Raises:
        TypeError: If ``lipschitz`` is not a number.
        ValueError: If ``lipschitz`` is not positive and finite.

    Example:
        >>> ShortStep(10.0)(1, 0.5, 0.1)
        0.5
    """

    lipschitz: float
    needs_gap: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_positive("lipschitz", self.lipschitz)

    def __call__(self, k: Scalar, gap: Scalar | None, squared_distance: Scalar | None) -> Scalar:
        if gap is None or squared_distance is None:
            raise TypeError(
                "`gap` and `squared_distance` must be numbers for ShortStep, got None. "
                "Pass both: they are ⟨g, d − s⟩ and ‖d − s‖²."
            )
        return at_most(at_least(gap, 0.0) / at_least(self.lipschitz * squared_distance, _TINY), 1.0)


def checked(gamma: Scalar, k: Scalar) -> Scalar:
    """What a rule gave at step k, checked where that takes no look at a device.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not in [0, 1].
    """
    if type(gamma) is float and 0 <= gamma <= 1:
        # What most rules give: to ask whether it is a Real takes longer.
        return gamma
    if isinstance(gamma, Tensor):
        gamma = scalar(gamma)
        if isinstance(gamma, Tensor):
            return gamma
    if not isinstance(gamma, Real):
        raise TypeError(f"`step_size` must give a number in [0, 1], got {gamma!r}. Return a float.")
    gamma = float(gamma)
    if not 0 <= gamma <= 1:
        raise ValueError(
            f"`step_size` must give a number in [0, 1], got {gamma} at step {k}: displacements "
            "would leave the ball. Correct the rule."
        )
    return gamma
