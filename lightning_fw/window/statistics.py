"""What a window tells of itself: gaps, losses, ball usage, cosine."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan, nan
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_fw.balls._base import Ball, Infos
from lightning_fw.record import RestartRecord
from lightning_fw.restarts import Progress, RestartRule
from lightning_fw.tensors.foreach import inner
from lightning_fw.tensors.scalars import Gathered, Scalar, at_least, at_most, gather
from lightning_fw.tensors.shards import like
from lightning_fw.window.buffers import clones
from lightning_fw.window.displacement import Displacement

# Below it the squares of entries lose their digits in float32: such a vector has no direction that
# can be told, and its cosine tends to 0.
_FLOOR = 3e-16

_VALUES = (
    "steps",
    "gap_first",
    "gap_last",
    "ball_usage",
    "cosine",
    "loss_first",
    "loss_last",
    "radius",
    "slope_ratio",
    "agreement",
)


class Seen(NamedTuple):
    """What a step tells of itself; numbers are NaN where it was skipped.

    Attributes:
        loss: The loss at the step.
        gap: The Frank-Wolfe gap there; None where nobody asked for it.
        gradients: Copies of the gradients, before any momentum, where they were asked for.
        weight: 1, or 0 for a step that was skipped.
    """

    loss: Scalar
    gap: Scalar | None
    gradients: list[Tensor]
    weight: Scalar


class WindowStatistics:
    """Collects the statistics of one window, without reading a device.

    They are those of its first and its last step tried; NaN where that step was skipped, and the
    gap also where nobody knew that it was the last. A rule that closes it early compares with the
    first step taken.

    Args:
        rule: What wants to know of progress, if anything does.
        enabled: Whether to keep what costs a pass over the parameters.
    """

    def __init__(self, rule: RestartRule | None, *, enabled: bool) -> None:
        self._rule, self.enabled = rule, enabled
        self.open()

    def open(self) -> None:
        """Forget the last window."""
        self.gap_first: Scalar = nan
        self.gap_last: Scalar = nan
        self._gap_taken: Scalar = nan
        self.loss_first: Scalar = nan
        self.loss_last: Scalar = nan
        self._first: list[Tensor] = []
        self._present: list[int] = []
        self._first_weight: Scalar = 1

    def renumber(self, places: Sequence[int | None]) -> None:
        """Go on with other parameters, among which those of before have these places."""
        pairs = zip(self._present, self._first, strict=True)
        kept = [(place, g) for index, g in pairs if (place := places[index]) is not None]
        self._present, self._first = [place for place, _ in kept], [g for _, g in kept]

    def see_skipped(self) -> None:
        """Forget what the step before left as the last."""
        self.gap_last = self.loss_last = nan

    def see(self, step: Seen, present: Sequence[int], *, first: bool) -> None:
        """Keep what a step tells.

        Args:
            step: What it tells.
            present: Indices of the parameters that had a gradient.
            first: Whether no step of this window was tried before.
        """
        if first:
            self.loss_first = step.loss
            self._first = step.gradients
            self._present = list(present) if step.gradients else []
            self._first_weight = step.weight
        self.loss_last = step.loss
        self.gap_last = gap = nan if step.gap is None else step.gap
        if first:
            self.gap_first = gap
        if self._rule is not None:
            self._gap_taken = _first_known(self._gap_taken, gap)

    def progress(self, displacement: Displacement) -> Progress:
        """Where the window stands, for a rule that closes it early."""
        return Progress(
            k=displacement.k,
            gap=self.gap_last,
            first_gap=self._gap_taken,
            length=displacement.length(),
            noise=displacement.noise**0.5,
        )

    def values(
        self,
        displacement: Displacement,
        ball: Ball,
        infos: Infos | None,
        own: Sequence[Scalar] | None,
        *,
        radius: Scalar,
        slope_ratio: Scalar,
        agreement: Scalar,
    ) -> Gathered:
        """What :meth:`record` tells of a window.

        Args:
            displacement: Where the window ended.
            ball: Its ball.
            infos: What the ball needs to know of each parameter.
            own: δ_i / δ of each parameter, where they differ.
            radius: δ.
            slope_ratio: r of SlopeRatio, NaN without it.
            agreement: Of ranks, NaN where they have none.
        """
        measured = self.enabled and displacement.has_moved
        return gather(
            [
                displacement.k,
                self.gap_first,
                self.gap_last,
                displacement.usage(ball, infos, own) if measured else nan,
                self._cosine(displacement.tensors) if measured and self._first else nan,
                self.loss_first,
                self.loss_last,
                radius,
                slope_ratio,
                agreement,
                *(own or ()),
            ]
        )

    def record(
        self,
        values: Gathered,
        infos: Infos | None,
        *,
        restart: int,
        attempts: int,
        early: bool,
    ) -> RestartRecord:
        """The window's record; reads the device once.

        Args:
            values: What :meth:`values` told.
            infos: The parameters' names.
            restart: Index of the window.
            attempts: Inner steps tried.
            early: Whether a restart rule closed it.
        """
        floats = values.read()
        read: dict[str, Any] = dict(zip(_VALUES, floats, strict=False))
        shares = floats[len(_VALUES) :]
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

    def identity(self) -> tuple[object, ...]:
        """What tells whether :meth:`values` would read the same memory."""
        numbers = (self.gap_first, self.gap_last, self.loss_first, self.loss_last)
        read = (*numbers, self._first_weight, *self._first)
        addresses = ((x.data_ptr(), x.dtype) if isinstance(x, Tensor) else str(x) for x in read)
        return (self.enabled, *self._present, *addresses)

    def _cosine(self, displacement: Sequence[Tensor]) -> Scalar:
        """Cosine between −g_1 and the displacement."""
        product = inner(self._first, [displacement[index] for index in self._present])
        for tensors in (self._first, displacement):
            product = product / at_least(inner(tensors, tensors) ** 0.5, _FLOOR)
        return unless_skipped(at_least(at_most(-product, 1.0), -1.0), self._first_weight)

    def state_dict(self) -> dict[str, Any]:
        """Gaps, losses and the first gradient of the open window."""
        return {
            "gaps": [float(gap) for gap in (self.gap_first, self.gap_last, self._gap_taken)],
            "losses": [float(self.loss_first), float(self.loss_last)],
            "first": clones(self._first),
            "first_skipped": not bool(self._first_weight),
            "present": list(self._present),
        }

    def load_state_dict(self, state: dict[str, Any], parameters: Sequence[Tensor]) -> None:
        """Take over what :meth:`state_dict` gave for the same parameters."""
        device = parameters[0].device
        self.gap_first, self.gap_last, self._gap_taken = state["gaps"]
        self.loss_first, self.loss_last = state["losses"]
        self._first = [
            like(gradient.to(device), parameters[index])
            for index, gradient in zip(state["present"], state["first"], strict=True)
        ]
        self._first_weight = torch.zeros((), device=device) if state["first_skipped"] else 1
        self._present = list(state["present"])


def _first_known(first: Scalar, second: Scalar) -> Scalar:
    """The first, or where that is NaN the second."""
    if not isinstance(second, Tensor):
        return second if isnan(first) else first
    if not isinstance(first, Tensor):
        first = torch.full_like(second, first)
    return torch.where(first.isnan(), second, first)


def unless_skipped(value: Scalar, weight: Scalar) -> Scalar:
    """The value, or NaN with the weight 0."""
    return torch.where(weight > 0, value, nan) if isinstance(weight, Tensor) else value
