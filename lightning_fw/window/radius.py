"""The radius δ of each window: fixed, by a schedule, or set by the slopes of the loss."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

from torch import Tensor

from lightning_fw.balls._base import Atoms
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.radius_rules import SlopeRatio, scheduled_radius
from lightning_fw.tensors.foreach import pick
from lightning_fw.tensors.scalars import Scalar, products, scalar, scalars
from lightning_fw.window.slopes import Slopes


class Radius:
    """Follows ``InnerLoop.radius_rule`` from window to window.

    Args:
        inner_loop: The settings.
        parameters: The parameters that the window moves.

    Attributes:
        now: δ of the open window.
        own: δ_i / δ of each parameter in it; None where all have the same radius.
    """

    def __init__(self, inner_loop: InnerLoop, parameters: Sequence[Tensor]) -> None:
        rule = inner_loop.radius_rule
        self._first = inner_loop.ball.radius
        self._schedule = rule if callable(rule) else None
        self._slopes = (
            Slopes(rule, self._first, parameters) if isinstance(rule, SlopeRatio) else None
        )
        # Written in place: CUDA graphs read them in every window.
        self._radii = None if self._slopes is None else self._slopes.radii()
        self.now: Scalar = self._first
        self.own: Sequence[Scalar] | None = None
        self.renew()

    def open(self, outer_step: int) -> None:
        """Follow a schedule to the window before this outer step, which opens."""
        if self._slopes is None:
            self.now = scheduled_radius(self._first, self._schedule, outer_step)

    def renew(self) -> None:
        """Follow the slopes to the window that opens next."""
        if self._slopes is None or self._radii is None:
            return
        for mine, value in zip(self._radii, self._slopes.radii(), strict=True):
            mine.copy_(value)
        self._read()

    def _read(self) -> None:
        if self._slopes is not None and self._radii is not None:
            radius, own = self._radii
            self.now = scalar(radius)
            if self._slopes.has_own_radii:
                self.own = scalars(own.unbind())

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A pickle keeps views as tensors of their own.
        self._read()

    def meet(
        self, k: Scalar, gradients: Sequence[Tensor], present: Sequence[int], weight: Scalar
    ) -> None:
        """Show the gradient of step k + 1, before any momentum: :meth:`Slopes.meet`."""
        if self._slopes is not None:
            self._slopes.meet(k, gradients, present, weight)

    def stretch(self, atoms: Atoms, present: Sequence[int], weight: Scalar) -> Atoms:
        """Show the newest unit atoms, :meth:`Slopes.remember`, and give each its own radius."""
        if self._slopes is not None:
            self._slopes.remember(atoms, present, weight)
        if self.own is None:
            return atoms
        own = pick(list(self.own), present)
        return Atoms(atoms.tensors, products(atoms.scales, own))

    def slopes(self) -> Tensor | None:
        """The window's slopes at both ends, shape (2, tensors); None without SlopeRatio."""
        return None if self._slopes is None else self._slopes.of_window()

    def close(self, slopes: Tensor | None) -> None:
        """End a window, with the slopes that ranks agree on; its radius stays until renewed."""
        if self._slopes is not None and slopes is not None:
            self._slopes.close(slopes)

    def slope_ratio(self, slopes: Tensor | None) -> Scalar:
        """r of SlopeRatio after a window with these slopes; NaN without it."""
        if self._slopes is None or slopes is None:
            return nan
        return self._slopes.ratio_after(slopes)

    def succeed(self, previous: Radius) -> None:
        """Take over from a window on other parameters."""
        if self._slopes is not None and previous._slopes is not None:
            self._slopes.succeed(previous._slopes)
            self.renew()

    def state_dict(self) -> dict[str, Any] | None:
        """That of the slopes; None without any."""
        return None if self._slopes is None else self._slopes.state_dict()

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it has another number of radii.
        """
        if self._slopes is not None and state is not None:
            self._slopes.load_state_dict(state)
            self.renew()
