"""What a window tells of itself: gaps, losses, ball usage, cosine."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.displacement import Displacement, clones
from lightning_fw.foreach import inner, inners
from lightning_fw.record import RestartRecord
from lightning_fw.restarts import Progress
from lightning_fw.scalars import Scalar, at_least, at_most, to_floats, total
from lightning_fw.shards import like

# Below it the squares of entries lose their digits in float32: such a vector has no direction that
# can be told, and its cosine tends to 0.
_FLOOR = 3e-16


class WindowStatistics:
    """Collects the statistics of one window, without reading a device.

    They are those of its first and its last step tried; NaN where that step was skipped.

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
        self._first_weight: Scalar = 1

    def see_gap(self, gap: Scalar, weight: Scalar, *, first: bool) -> None:
        """Keep the gap of a step."""
        gap = _unless_skipped(gap, weight)
        if first:
            self.gap_first = gap
        self.gap_last = gap

    def see_skipped(self) -> None:
        """Forget what the step before left as the last."""
        self.gap_last = self.loss_last = nan

    def see_step(
        self,
        gradients: Sequence[Tensor],
        present: Sequence[int],
        loss: Tensor | None,
        weight: Scalar,
        *,
        first: bool,
    ) -> None:
        """Keep the loss of a step, and its gradient where it is the window's first.

        Args:
            gradients: The gradients themselves, before any momentum.
            present: Indices of the parameters that have one.
            loss: The loss at the step.
            weight: 1, or 0 for a step that is skipped.
            first: Whether no step of this window was tried before.
        """
        value: Scalar = nan if loss is None else _unless_skipped(loss.detach().reshape(()), weight)
        if first:
            self.loss_first = value
            if self.enabled:
                self._first = [gradient.clone() for gradient in gradients]
                self._present = list(present)
                self._first_weight = weight
        self.loss_last = value

    def progress(self, displacement: Displacement) -> Progress:
        """Where the window stands, for a rule that closes it early."""
        return Progress(
            k=displacement.k,
            gap=self.gap_last,
            first_gap=self.gap_first,
            length=displacement.length(),
            noise=displacement.noise**0.5,
        )

    def record(
        self,
        displacement: Displacement,
        ball: Ball,
        infos: Infos | None,
        own: Sequence[Scalar] | None = None,
        *,
        radius: Scalar,
        restart: int,
        attempts: int,
        early: bool,
        **scalars: Scalar,
    ) -> RestartRecord:
        """The window's record; reads the device once.

        Args:
            displacement: Where the window ended.
            ball: Its ball.
            infos: What the ball needs to know of each parameter.
            own: δ_i / δ of each parameter, where they differ.
            radius: δ.
            restart: Index of the window.
            attempts: Inner steps tried.
            early: Whether a restart rule closed it.
            **scalars: Further values of the record.
        """
        measured = self.enabled and displacement.has_moved
        values = {
            "steps": displacement.k,
            "gap_first": self.gap_first,
            "gap_last": self.gap_last,
            "ball_usage": displacement.usage(ball, infos, own) if measured else nan,
            "cosine": self._cosine(displacement.tensors) if measured and self._first else nan,
            "loss_first": self.loss_first,
            "loss_last": self.loss_last,
            "radius": radius,
            **scalars,
        }
        floats = to_floats([*values.values(), *(own or ())])
        read: dict[str, Any] = dict(zip(values, floats, strict=False))
        shares = floats[len(values) :]
        known = [info.name for info in infos or ()] or [""] * len(shares)
        names = [name or str(index) for index, name in enumerate(known)]
        steps = int(read.pop("steps"))
        return RestartRecord(
            restart=restart,
            steps=steps,
            skipped=attempts - steps,
            early=early,
            radii={
                name: share * read["radius"] for name, share in zip(names, shares, strict=False)
            },
            **read,
        )

    def _cosine(self, displacement: Sequence[Tensor]) -> Scalar:
        """Cosine between −g_1 and the displacement."""
        product = inner(self._first, [displacement[index] for index in self._present])
        for tensors in (self._first, displacement):
            product = product / at_least(inner(tensors, tensors) ** 0.5, _FLOOR)
        return _unless_skipped(at_least(at_most(-product, 1.0), -1.0), self._first_weight)

    def state_dict(self) -> dict[str, Any]:
        """Gaps, losses and the first gradient of the open window."""
        return {
            "gaps": [float(self.gap_first), float(self.gap_last)],
            "losses": [float(self.loss_first), float(self.loss_last)],
            "first": clones(self._first),
            "first_skipped": not bool(self._first_weight),
            "present": list(self._present),
        }

    def load_state_dict(self, state: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """Take over what :meth:`state_dict` gave for the same parameters."""
        device = parameters[0].device
        self.gap_first, self.gap_last = state["gaps"]
        self.loss_first, self.loss_last = state["losses"]
        self._first = [
            like(gradient.to(device), parameters[index])
            for index, gradient in zip(state["present"], state["first"], strict=True)
        ]
        self._first_weight = torch.zeros((), device=device) if state["first_skipped"] else 1
        self._present = list(state["present"])


def _unless_skipped(value: Scalar, weight: Scalar) -> Scalar:
    return torch.where(weight > 0, value, nan) if isinstance(weight, Tensor) else value


def slope_along(gradients: Sequence[Tensor], atoms: Atoms) -> Scalar:
    """⟨g, s⟩ over all parameters."""
    slopes = inners(gradients, atoms.tensors)
    return total([slope * scale for slope, scale in zip(slopes, atoms.scales, strict=True)])
