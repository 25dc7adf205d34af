"""Rules for the radius: schedules, and one that sets it from the slopes of the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TypeAlias

import torch
from torch import Tensor

from lightning_fw.checks import require_count, require_number, require_positive, require_share

RadiusSchedule: TypeAlias = Callable[[int], float]
"""Outer step, from 0, to a factor > 0 on the ball's radius."""


class RadiusRule:
    """What sets the radius by what windows tell: :class:`SlopeRatio`.

    jsonargparse writes a setting of this type by the name of its class; a dataclass in a union with
    functions it could not write.
    """


def _require_end(end: float) -> None:
    require_number("end", end)
    if not 0 < end <= 1:
        raise ValueError(f"`end` must be in (0, 1], got {end}. Pass 0 < end <= 1.")


@dataclass(frozen=True)
class LinearDecay:
    """A factor that falls from 1 to ``end`` on a straight line, and stays there.

    Args:
        total_steps: Restarts until ``end`` is reached.
        end: The last factor, in (0, 1].

    Raises:
        TypeError: If ``total_steps`` is not an int or ``end`` not a number.
        ValueError: If ``total_steps`` < 1 or ``end`` is not in (0, 1].

    Example:
        >>> LinearDecay(total_steps=10, end=0.5)(5)
        0.75
    """

    total_steps: int
    end: float = 0.1

    def __post_init__(self) -> None:
        require_count("total_steps", self.total_steps)
        _require_end(self.end)

    def __call__(self, outer_step: int) -> float:
        return 1 - (1 - self.end) * min(outer_step / self.total_steps, 1.0)


@dataclass(frozen=True)
class CosineDecay:
    """A factor that falls from 1 to ``end`` on half a cosine, and stays there.

    Args:
        total_steps: Restarts until ``end`` is reached.
        end: The last factor, in (0, 1].

    Raises:
        TypeError: If ``total_steps`` is not an int or ``end`` not a number.
        ValueError: If ``total_steps`` < 1 or ``end`` is not in (0, 1].

    Example:
        >>> round(CosineDecay(total_steps=10, end=0.5)(5), 6)
        0.75
    """

    total_steps: int
    end: float = 0.1

    def __post_init__(self) -> None:
        require_count("total_steps", self.total_steps)
        _require_end(self.end)

    def __call__(self, outer_step: int) -> float:
        share = min(outer_step / self.total_steps, 1.0)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class PowerDecay:
    """(1 + t / timescale)^(−power) at outer step t: the decay of stochastic approximation.

    Args:
        power: In (0, 1]; 1/2 is the usual choice under noise.
        timescale: Outer steps after which the decay sets in, > 0.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If ``power`` is not in (0, 1] or ``timescale`` is not positive.

    Example:
        >>> PowerDecay(power=0.5)(3)
        0.5
    """

    power: float = 0.5
    timescale: float = 1.0

    def __post_init__(self) -> None:
        require_number("power", self.power)
        if not 0 < self.power <= 1:
            raise ValueError(f"`power` must be in (0, 1], got {self.power}. Pass 0 < power <= 1.")
        require_positive("timescale", self.timescale)

    def __call__(self, outer_step: int) -> float:
        return float((1 + outer_step / self.timescale) ** -self.power)


def scheduled_radius(radius: float, schedule: RadiusSchedule | None, outer_step: int) -> float:
    """The radius at an outer step.

    Raises:
        TypeError: If the schedule's factor is no Python number.
        ValueError: If it is not positive and finite.
    """
    if schedule is None:
        return radius
    factor = schedule(outer_step)
    if isinstance(factor, bool) or not isinstance(factor, int | float):
        raise TypeError(
            f"`radius_rule` must give a Python number, got {factor!r} at outer step {outer_step}. "
            "Return a float."
        )
    if not (factor > 0 and math.isfinite(factor)):
        raise ValueError(
            f"`radius_rule` must give a factor > 0, got {factor!r} at outer step {outer_step}. "
            "Correct the schedule."
        )
    return radius * factor


@dataclass(frozen=True, kw_only=True)
class SlopeRatio(RadiusRule):
    """A radius that sets itself from the slope of the loss at both ends of a window.

    With the slope a = ⟨g_1, s_0⟩ / δ at the anchor along the previous window's last atom, the
    slope b = ⟨g_K, s_{K−1}⟩ / δ at the last point along the newest atom, each δ the one that the
    atom was made with, and their running averages A and B from 0 on, at the t-th restart that has
    both::

        δ ← clip(δ exp(η_t c), minimum, maximum),  η_t = max(η, η₁ / √t)
        c = clip(2 (τ A − B) / ∣A∣, −1, 1)

    With r = −B / ∣A∣, where the loss falls along the way (A < 0) the ratio of both slopes, c is
    clip(2 (r − τ), −1, 1). r near 1: the loss is a straight line across the ball, which is too
    small; r near 0: the bottom along the way is reached; r < 0: past it. Each gradient meets an
    atom made before it was seen, so its noise averages out; and slopes that are all noise, as on a
    plateau, let the radius grow as often as shrink.

    The steepest tensors rule the sums: where they are past the bottom, all others shrink with
    them. With ``own_share`` ρ > 0 tensor i has a radius of its own. Its slopes a_i and b_i, along
    its part of the atom divided by δ_i, make c_i by the formula above, as their sums over i, which
    are a and b then, make c::

        δ_i ← clip(δ_i exp(η_t (ρ c_i + (1 − ρ) c)), minimum, maximum)

    Without a gradient a tensor has the slope 0, and its newest atom stays that of its last one. A
    tensor without a slope in this window, or at any anchor so far, follows the sums alone. The
    feasible set is the product of the tensors' balls, so that none may span several; the window's
    δ, in whose unit directions are told, is the geometric mean of the δ_i.

    Needs K ≥ 2 and fresh batches (``"successive"`` or ``"split"``). A window without both slopes
    (the first; one cut down to a single step) leaves the state as it is.

    Args:
        target: τ in (−1, 1).
        rate: η > 0, the largest change of log δ at a late restart.
        early_rate: η₁ ≥ 0, that at the first restart, which falls like 1 / √t to η; 0: always η.
        decay: Decay of the running averages, in [0, 1).
        own_share: ρ in [0, 1]; 0: one radius for all tensors.
        minimum: Floor of δ, > 0.
        maximum: Ceiling of δ, at least the floor.

    Raises:
        TypeError: If a setting is not a number.
        ValueError: If a setting is out of its range.

    Example:
        >>> rule = SlopeRatio()
        >>> state = rule.initial_state(0.1, torch.device("cpu"))
        >>> state = rule.update(state, torch.tensor(-1.0), torch.tensor(-1.0))
        >>> round(state["radius"].item(), 4)  # a straight line: the ball grows
        0.1041
    """

    target: float = 0.6
    rate: float = 0.05
    early_rate: float = 0.0
    decay: float = 0.95
    own_share: float = 0.0
    minimum: float = 1e-3
    maximum: float = 1.0

    def __post_init__(self) -> None:
        for setting in fields(self):
            require_number(setting.name, getattr(self, setting.name))
        if not -1 < self.target < 1:
            raise ValueError(
                f"`target` must be in (-1, 1), got {self.target}. Pass -1 < target < 1."
            )
        require_positive("rate", self.rate)
        if not 0 <= self.early_rate < math.inf:
            raise ValueError(
                f"`early_rate` must be finite and >= 0, got {self.early_rate}. Pass 0 for none."
            )
        require_share("decay", self.decay)
        if not 0 <= self.own_share <= 1:
            raise ValueError(
                f"`own_share` must be in [0, 1], got {self.own_share}. Pass 0 <= own_share <= 1."
            )
        require_positive("minimum", self.minimum)
        if not (self.maximum >= self.minimum and math.isfinite(self.maximum)):
            raise ValueError(
                f"`maximum` must be at least `minimum` = {self.minimum}, got {self.maximum}. "
                "Pass a finite maximum >= minimum."
            )

    def initial_state(
        self, radius: float, device: torch.device, tensors: int = 1
    ) -> dict[str, Tensor]:
        """The state before the first window, float32: δ_i, A_i, B_i, of shape (tensors,), and t."""
        zeros = torch.zeros(tensors, dtype=torch.float32, device=device)
        return {
            "radius": zeros + min(max(radius, self.minimum), self.maximum),
            "anchor_slope": zeros,
            "end_slope": zeros,
            "updates": zeros.new_zeros(()),
        }

    def update(self, state: dict[str, Tensor], a: Tensor, b: Tensor) -> dict[str, Tensor]:
        """The state after a window with the slopes a and b; the old one if a sum is not finite.

        Args:
            state: As :meth:`initial_state` or :meth:`update` made it.
            a: Slopes at the anchor, float32, of shape (tensors,).
            b: Slopes at the last point, alike.
        """
        anchor_slope = torch.lerp(a, state["anchor_slope"], self.decay)
        end_slope = torch.lerp(b, state["end_slope"], self.decay)
        updates = state["updates"] + 1
        updated = {"anchor_slope": anchor_slope, "end_slope": end_slope, "updates": updates}
        rate = (self.early_rate / updates.sqrt()).clamp_min(self.rate)
        has_slope = (a != 0) | (b != 0)
        radius = state["radius"] * torch.exp(rate * self._changes(updated, has_slope))
        updated["radius"] = radius.clamp(self.minimum, self.maximum)
        finite = torch.isfinite(a.sum() + b.sum())
        return {name: torch.where(finite, value, state[name]) for name, value in updated.items()}

    def _changes(self, state: dict[str, Tensor], has_slope: Tensor) -> Tensor:
        """ρ c_i + (1 − ρ) c of each tensor."""
        a, b = state["anchor_slope"], state["end_slope"]
        common, own = self._change(a.sum(), b.sum()), self._change(a, b)
        # A tensor without a slope, as one that is frozen, follows the others.
        own = torch.where((a != 0) & has_slope, own, common)
        return torch.lerp(common.expand_as(own), own, self.own_share)

    def _change(self, a: Tensor, b: Tensor) -> Tensor:
        """c; 0 without any slope, as of a gradient that is 0."""
        change: Tensor = 2 * (self.target * a - b) / a.abs()
        return change.nan_to_num(0.0).clamp(-1, 1)

    def ratio(self, state: dict[str, Tensor]) -> Tensor:
        """r of the sums over tensors."""
        ratio: Tensor = -state["end_slope"].sum() / state["anchor_slope"].sum().abs()
        return ratio
