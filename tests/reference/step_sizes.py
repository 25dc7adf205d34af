"""γ_k, the weight of the k-th atom of a window, k = 1, 2, …

A rule sees k, the gap ⟨m_k, d_{k−1} − s_k⟩ and ‖d_{k−1} − s_k‖² over all parameters together.
"""

from __future__ import annotations

from collections.abc import Callable

StepSize = Callable[[int, float, float], float]


def harmonic(k: int, gap: float, distance: float) -> float:
    """1/k."""
    return 1.0 / k


def open_loop(k: int, gap: float, distance: float) -> float:
    """2/(k+1)."""
    return 2.0 / (k + 1.0)


def constant(value: float) -> StepSize:
    """The same weight at every step."""
    return lambda k, gap, distance: value


def short(lipschitz: float) -> StepSize:
    """min(1, gap / (L ‖d_{k−1} − s_k‖²)), where a gap below 0 is rounding and counts as 0."""

    def rule(k: int, gap: float, distance: float) -> float:
        return min(1.0, max(0.0, gap) / (lipschitz * distance)) if distance > 0 else 0.0

    return rule
