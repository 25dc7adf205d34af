"""The slopes of the loss at both ends of a window, which set the radius."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms
from lightning_fw.displacement import clones, copy_shared, load, zeros_beside
from lightning_fw.foreach import blend_, inner, pick
from lightning_fw.radius_rules import SlopeRatio
from lightning_fw.scalars import Scalar, on_host


class Slopes:
    """Measures a and b of :class:`~lightning_fw.SlopeRatio` and keeps its state.

    Args:
        rule: The rule.
        radius: δ of the first window.
        parameters: The parameters that the window moves.
    """

    def __init__(self, rule: SlopeRatio, radius: float, parameters: Sequence[Tensor]) -> None:
        self.rule = rule
        self.state = rule.initial_state(radius, parameters[0].device)
        self._parameters = list(parameters)
        self._atom = zeros_beside(parameters)
        self._has_atom = False
        self._at_anchor: Scalar | None = None
        self._at_end: Scalar | None = None

    def meet(
        self, k: Scalar, gradients: Sequence[Tensor], present: Sequence[int], weight: Scalar
    ) -> None:
        """Let the gradient of step k + 1 meet the atom that was made before it was seen.

        Args:
            k: Inner steps taken before this one.
            gradients: The gradients themselves, before any momentum.
            present: Indices of the parameters that have one.
            weight: 1 for a finite gradient, 0 for one that is skipped.
        """
        if not self._has_atom:
            return
        slope = inner(gradients, pick(self._atom, present))
        if isinstance(k, Tensor):
            self._at_anchor = _chosen((k == 0) & (weight > 0), slope, self._at_anchor)
            self._at_end = _chosen((k > 0) & (weight > 0), slope, self._at_end)
        elif k == 0:
            self._at_anchor = slope
        else:
            self._at_end = slope

    def remember(self, atoms: Atoms, present: Sequence[int], weight: Scalar) -> None:
        """Keep the newest atom; weight 0 keeps the one before."""
        blend_(pick(self._atom, present), atoms.tensors, atoms.scales, weight)
        self._has_atom = True

    def of_window(self) -> Tensor:
        """a and b of the window in progress, shape (2,), NaN where there is none."""
        radius = self.state["radius"]
        missing = torch.full_like(radius, float("nan"))
        a, b = (
            missing if slope is None else torch.as_tensor(slope, device=radius.device)
            for slope in (self._at_anchor, self._at_end)
        )
        return torch.stack([a.to(radius.dtype), b.to(radius.dtype)])

    def close(self, slopes: Tensor) -> None:
        """Update the radius with the window's two slopes, as ranks agree on them."""
        self.state = self.rule.update(self.state, slopes[0], slopes[1])
        self._at_anchor = self._at_end = None

    def ratio(self) -> Tensor:
        """r, or NaN before the first update."""
        ratio = self.rule.ratio(self.state)
        return ratio.masked_fill(self.state["anchor_slope"] == 0, float("nan"))

    def succeed(self, previous: Slopes) -> None:
        """Take over the radius, and the newest atom of the parameters that both move."""
        self.state = previous.state
        copy_shared(self._atom, self._parameters, previous._atom, previous._parameters)
        self._has_atom = previous._has_atom

    def state_dict(self) -> dict[str, Any]:
        """A, B, δ, the newest atom and the open window's slopes."""
        return {
            "radius": {name: value.clone() for name, value in self.state.items()},
            "atom": clones(self._atom) if self._has_atom else None,
            "at_anchor": _number(self._at_anchor),
            "at_end": _number(self._at_end),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        device = self.state["radius"].device
        self.state = {name: value.to(device) for name, value in state["radius"].items()}
        self._has_atom = state["atom"] is not None
        load("newest atom", self._atom, state["atom"])
        self._at_anchor = _on(device, state["at_anchor"])
        self._at_end = _on(device, state["at_end"])


def _chosen(condition: Tensor, slope: Scalar, before: Scalar | None) -> Tensor:
    kept = torch.as_tensor(float("nan") if before is None else before, device=condition.device)
    return torch.where(condition, slope, kept)


def _number(slope: Scalar | None) -> float | None:
    return None if slope is None else float(slope)


def _on(device: torch.device, slope: float | None) -> Scalar | None:
    if slope is None or on_host(device):
        return slope
    return torch.tensor(slope, device=device)
