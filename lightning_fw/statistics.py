"""What a window tells of itself: gaps, losses, ball usage, cosine."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.displacement import Displacement
from lightning_fw.foreach import inner
from lightning_fw.scalars import Scalar, at_least, total

# A zero displacement has no direction: its cosine is 0 / TINY = 0.
_TINY = 1.1754943508222875e-38


class WindowStatistics:
    """Collects the statistics of one window, without reading a device.

    Args:
        enabled: Whether to keep what costs a pass over the parameters.
    """

    def __init__(self, *, enabled: bool) -> None:
        self.enabled = enabled
        self.open()

    def open(self) -> None:
        """Forget the last window."""
        self.gap_first: Scalar = nan
        self.gap_last: Scalar = nan
        self.loss_first: Scalar = nan
        self.loss_last: Scalar = nan
        self._first: list[Tensor] = []
        self._present: list[int] = []

    def see_gap(self, gap: Scalar, weight: Scalar, *, first: bool) -> None:
        """Keep the gap of a step; NaN when the step is skipped."""
        if isinstance(weight, Tensor):
            gap = torch.where(weight > 0, gap, nan)
        if first:
            self.gap_first = gap
        self.gap_last = gap

    def see_step(
        self,
        gradients: Sequence[Tensor],
        present: Sequence[int],
        loss: Tensor | None,
        *,
        first: bool,
    ) -> None:
        """Keep the loss of a step, and its gradient where it is the window's first.

        Args:
            gradients: The gradients themselves, before any momentum.
            present: Indices of the parameters that have one.
            loss: The loss at the step.
            first: Whether no step of this window was taken before.
        """
        value: Scalar = nan if loss is None else loss.detach()
        if first:
            self.loss_first = value
            if self.enabled:
                self._first = [gradient.clone() for gradient in gradients]
                self._present = list(present)
        self.loss_last = value

    def values(
        self, displacement: Displacement, ball: Ball, infos: Infos | None
    ) -> dict[str, Scalar]:
        """The statistics by their names in a RestartRecord; NaN where there is none."""
        measured = self.enabled and displacement.has_moved
        return {
            "gap_first": self.gap_first,
            "gap_last": self.gap_last,
            "ball_usage": displacement.usage(ball, infos) if measured else nan,
            "cosine": self._cosine(displacement.tensors) if measured else nan,
            "loss_first": self.loss_first,
            "loss_last": self.loss_last,
        }

    def _cosine(self, displacement: Sequence[Tensor]) -> Scalar:
        """Cosine between −g_1 and the displacement."""
        product = inner(self._first, [displacement[index] for index in self._present])
        lengths = inner(self._first, self._first) * inner(displacement, displacement)
        return -product / at_least(lengths**0.5, _TINY)

    def state_dict(self) -> dict[str, Any]:
        """Gaps, losses and the first gradient of the open window."""
        return {
            "gaps": [float(self.gap_first), float(self.gap_last)],
            "losses": [float(self.loss_first), float(self.loss_last)],
            "first": [gradient.clone() for gradient in self._first],
            "present": list(self._present),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.gap_first, self.gap_last = state["gaps"]
        self.loss_first, self.loss_last = state["losses"]
        self._first = [gradient.to(device) for gradient in state["first"]]
        self._present = list(state["present"])


def slope_along(gradients: Sequence[Tensor], atoms: Atoms) -> Scalar:
    """⟨g, s⟩ over all parameters."""
    return total(
        [
            inner([gradient], [tensor]) * scale
            for gradient, tensor, scale in zip(gradients, atoms.tensors, atoms.scales, strict=True)
        ]
    )
