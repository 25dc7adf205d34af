"""Frank-Wolfe with restarts, design.md section 3.

Window with anchor ω, k = 1 … K (fewer when the epoch ends first):

    g_k = ∇ loss(ω + e_{k−1}; batch_k)       e = d when anchored, Σ_{j<k} d_j when cumulative
    m_k = β m_{k−1} + (1 − β) g_k            kept across windows, 0 before the first
    s_k = argmin over the ball of ⟨m_k, s⟩
    d_k = (1 − γ_k) d_{k−1} + γ_k s_k

and the outer optimizer gets −d_K / δ ("unit") or −d_K ("displacement") as its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .blocks import Groups, Scope, atom, blocks
from .elman import Batch, Weights
from .oracles import Oracle
from .outer import Outer
from .step_sizes import StepSize, harmonic
from .windows import Feed, windows

Gradient = Callable[[Weights, Batch], Weights]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the user of the package would put into an `InnerLoop`."""

    oracle: Oracle
    radius: float
    scope: Scope = "tensor"
    steps: int = 5
    step_size: StepSize = harmonic
    batches: Feed = "successive"
    trajectory: Literal["anchored", "cumulative", "fixed"] = "anchored"
    momentum: float = 0.0
    direction: Literal["unit", "displacement"] = "unit"


def zeros(weights: Weights) -> Weights:
    """A zero for every parameter."""
    return {name: np.zeros_like(value) for name, value in weights.items()}


def mix(a: float, x: Weights, b: float, y: Weights) -> Weights:
    """a·x + b·y, parameter by parameter."""
    return {name: a * x[name] + b * y[name] for name in x}


def dot(x: Weights, y: Weights) -> float:
    """⟨x, y⟩ over all parameters."""
    return float(sum(np.sum(x[name] * y[name]) for name in x))


def train(
    anchor: Weights,
    batches: list[Batch],
    *,
    plan: Plan,
    groups: Groups,
    outer: Outer,
    gradient: Gradient,
    epochs: int,
) -> Weights:
    """The weights after `epochs` passes over `batches`."""
    spans = blocks(groups, plan.scope)
    averaged = zeros(anchor)
    for _ in range(epochs):
        for window in windows(batches, plan.batches, plan.steps):
            d, passed, origin = zeros(anchor), zeros(anchor), zeros(anchor)
            for k, batch in enumerate(window, start=1):
                offset = {"anchored": d, "cumulative": passed, "fixed": origin}[plan.trajectory]
                g = gradient(mix(1.0, anchor, 1.0, offset), batch)
                averaged = mix(plan.momentum, averaged, 1.0 - plan.momentum, g)
                s = atom(averaged, spans, plan.oracle, plan.radius)
                away = mix(1.0, d, -1.0, s)
                gamma = plan.step_size(k, dot(averaged, away), dot(away, away))
                d = mix(1.0 - gamma, d, gamma, s)
                passed = mix(1.0, passed, 1.0, d)
            scale = plan.radius if plan.direction == "unit" else 1.0
            anchor = outer.step(anchor, {name: -value / scale for name, value in d.items()})
    return anchor
