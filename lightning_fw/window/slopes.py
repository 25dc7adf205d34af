"""The slopes of the loss at both ends of a window, which set the radius."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms
from lightning_fw.radius_rules import SlopeRatio
from lightning_fw.tensors.foreach import blend_, inners, pick
from lightning_fw.tensors.scalars import Scalar, total
from lightning_fw.window.buffers import clones, copy_shared, load, places, zeros_beside


class Slopes:
    """Measures a and b of :class:`~lightning_fw.SlopeRatio` and keeps its state.

    Args:
        rule: The rule; without a share of own slopes all parameters count as one tensor.
        radius: δ of the first window.
        parameters: The parameters that the window moves.
    """

    def __init__(self, rule: SlopeRatio, radius: float, parameters: Sequence[Tensor]) -> None:
        self.rule = rule
        self.has_own_radii = rule.own_share > 0
        count = len(parameters) if self.has_own_radii else 1
        state = rule.initial_state(radius, parameters[0].device, count)
        self.state = {name: value.clone() for name, value in state.items()}
        self._parameters = list(parameters)
        self._atom = zeros_beside(parameters)
        self._has_atom = False
        # Atoms of steps that were taken: of an accelerator's the host does not know which were.
        self._taken = self.state["radius"].new_zeros(())
        # At the anchor and at the end, NaN where there is none.
        self._ends = self.state["radius"].new_full((2, count), torch.nan)

    def radii(self) -> tuple[Tensor, Tensor]:
        """δ, the geometric mean of the δ_i, and all δ_i / δ."""
        radii = self.state["radius"]
        # In units of the first, so that equal ones give exactly their own.
        mean = radii[0] * torch.exp((radii / radii[0]).log().mean())
        return mean, radii / mean

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
        slopes = self._along_atom(gradients, present)
        if isinstance(k, Tensor) and isinstance(weight, Tensor):
            row = (k > 0).to(torch.int64)
            kept = self._ends.index_select(0, row)
            counts = (weight > 0) & (self._taken > 0)
            self._ends.index_copy_(0, row, torch.where(counts, slopes, kept))
        else:
            self._ends[0 if k == 0 else 1] = slopes

    def _along_atom(self, gradients: Sequence[Tensor], present: Sequence[int]) -> Tensor:
        """⟨g_i, s_i⟩ of each tensor, 0 for one without a gradient."""
        slopes = inners(gradients, pick(self._atom, present))
        if not self.has_own_radii:
            slopes = [total(slopes)]
        elif len(present) < len(self._atom):
            by_index = dict(zip(present, slopes, strict=True))
            zero = torch.zeros_like(slopes[0]) if isinstance(slopes[0], Tensor) else 0.0
            slopes = [by_index.get(index, zero) for index in range(len(self._atom))]
        radii = self.state["radius"]
        if isinstance(slopes[0], Tensor):
            return torch.stack([torch.as_tensor(slope).to(radii.dtype) for slope in slopes])
        return torch.tensor(slopes, dtype=radii.dtype, device=radii.device)

    def remember(self, atoms: Atoms, present: Sequence[int], weight: Scalar) -> None:
        """Keep the newest unit atom; weight 0 keeps the one before."""
        blend_(pick(self._atom, present), atoms.tensors, atoms.scales, weight)
        self._taken += weight
        self._has_atom = True

    def of_window(self) -> Tensor:
        """a_i and b_i of the window in progress, shape (2, tensors), NaN where there is none."""
        return self._ends

    def close(self, slopes: Tensor) -> None:
        """Update the radii with the window's slopes, as ranks agree on them."""
        for name, value in self._after(slopes).items():
            self.state[name].copy_(value)
        self._ends.fill_(torch.nan)

    def ratio_after(self, slopes: Tensor) -> Tensor:
        """r with the window's slopes; NaN where A is 0, as before the first update."""
        state = self._after(slopes)
        ratio = self.rule.ratio(state)
        return ratio.masked_fill(state["anchor_slope"].sum() == 0, float("nan"))

    def _after(self, slopes: Tensor) -> dict[str, Tensor]:
        return self.rule.update(self.state, slopes[0], slopes[1])

    def succeed(self, previous: Slopes) -> None:
        """Take over radii and slopes, and the newest atom of the parameters that both move.

        A new parameter starts at δ, without slopes of its own.
        """
        self._has_atom = previous._has_atom
        self._taken.copy_(previous._taken)
        copy_shared(self._atom, self._parameters, previous._atom, previous._parameters)
        if not self.has_own_radii:
            self.state, self._ends = previous.state, previous._ends
            return
        known = places(self._parameters, previous._parameters)
        mean, _ = previous.radii()
        state = {**previous.state}
        for name, new in (("radius", mean), ("anchor_slope", 0 * mean), ("end_slope", 0 * mean)):
            rows = [*state[name].unbind(), new]
            state[name] = torch.stack([rows[-1 if place is None else place] for place in known])
        self.state = state
        # 0 is the slope of a tensor without a gradient.
        ends = [*previous._ends.unbind(1), 0 * previous._ends[:, 0]]
        self._ends = torch.stack([ends[-1 if place is None else place] for place in known], dim=1)

    def state_dict(self) -> dict[str, Any]:
        """A_i, B_i, δ_i, the newest atom and the open window's slopes."""
        return {
            "radius": {name: value.clone() for name, value in self.state.items()},
            "atom": clones(self._atom) if self._taken > 0 else None,
            "ends": self._ends.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it has another number of radii.
        """
        mine, theirs = self.state["radius"].numel(), state["radius"]["radius"].numel()
        if mine != theirs:
            raise ValueError(
                f"`state` has radii of {theirs} tensors, expected {mine}. "
                "Load it into the parameters and the InnerLoop that it was saved from."
            )
        for name, value in state["radius"].items():
            self.state[name].copy_(value)
        self._has_atom = state["atom"] is not None
        self._taken.fill_(float(self._has_atom))
        load("newest atom", self._atom, state["atom"])
        self._ends.copy_(state["ends"])
