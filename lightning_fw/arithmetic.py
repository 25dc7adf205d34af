"""The arithmetic of a window: from gradients to displacements, and from these to a direction."""

from __future__ import annotations

from math import nan

from torch import Tensor

from lightning_fw.balls._base import Atoms
from lightning_fw.displacement import Displacement
from lightning_fw.foreach import inners, mask_, pick, tensor_norms, working_dtype
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.local_windows import Joined
from lightning_fw.momentum import Momentum
from lightning_fw.parameters import ParameterInfo
from lightning_fw.radius import Radius
from lightning_fw.scalars import (
    Gathered,
    Scalar,
    at_least,
    is_finite,
    masked,
    products,
    scalars,
    total,
)
from lightning_fw.statistics import Seen, WindowStatistics, unless_skipped


class Arithmetic:
    """All that a window computes; it reads no device, and what it changes stays at its address.

    Args:
        inner_loop: The settings.
        infos: What balls need to know of each parameter.
        displacement: What it moves.
        momentum: What stands for the gradients.
        radius: δ, and what sets it.
    """

    def __init__(
        self,
        inner_loop: InnerLoop,
        infos: list[ParameterInfo] | None,
        displacement: Displacement,
        momentum: Momentum,
        radius: Radius,
    ) -> None:
        self._inner_loop, self._infos = inner_loop, infos
        self._displacement, self._momentum, self._radius = displacement, momentum, radius

    def step(
        self,
        gradients: list[Tensor],
        present: list[int],
        loss: Tensor | None,
        *,
        wants_gap: bool,
        wants_gradients: bool,
    ) -> Seen | None:
        """Take a step, or skip it where a gradient is not finite.

        Args:
            gradients: Of the parameters at ``present``; it may set them to zero.
            present: Indices of the parameters that have one.
            loss: The loss at the step, a scalar.
            wants_gap: Whether to tell the gap, if no rule needs it anyway.
            wants_gradients: Whether to tell the gradients.

        Returns:
            None where a step is known to be skipped; on an accelerator nobody knows.
        """
        loop = self._inner_loop
        norms = scalars(tensor_norms(gradients))
        finite = is_finite(total(norms))
        if finite is False:
            return None
        weight: Scalar = 1
        if isinstance(finite, Tensor):
            gradients, norms = mask_(gradients, ~finite), masked(norms, ~finite)
            weight = finite.to(working_dtype(gradients[0].dtype))
        copies = [gradient.clone() for gradient in gradients] if wants_gradients else []
        self._radius.meet(self._displacement.k, gradients, present, weight)
        averages = self._momentum.average(gradients, present, weight)
        infos = self._infos and pick(self._infos, present)
        atoms = loop.ball.atoms(averages, infos, norms if averages is gradients else None)
        atoms = self._radius.stretch(atoms, present, weight)
        gap = distance = None
        if wants_gap or loop.step_size.needs_gap or loop.restart_when is not None:
            gap = self._gap(averages, atoms, present)
        if loop.step_size.needs_gap:
            length = self._displacement.squared_distance_to(atoms, present)
            distance = self._radius.now**2 * length
        self._displacement.toward(
            atoms,
            present,
            loop.step_size(self._displacement.k + 1, gap, distance),
            weight,
            noise=loop.restart_when is not None,
        )
        return Seen(
            nan if loss is None else unless_skipped(loss.detach().reshape(()), weight),
            None if gap is None else unless_skipped(gap, weight),
            copies,
            weight,
        )

    def end(self, joined: Joined, statistics: WindowStatistics) -> Gathered:
        """Tell of the window, which stays as it is.

        Args:
            joined: What ranks have in common.
            statistics: Of the window.

        Returns:
            What there is to tell of the window.
        """
        return statistics.values(
            self._displacement,
            self._inner_loop.ball,
            self._infos,
            self._radius.own,
            radius=self._radius.now,
            slope_ratio=self._radius.slope_ratio(joined.slopes),
            agreement=joined.agreement,
        )

    def turn(self, slopes: Tensor | None) -> None:
        """Make the direction of the displacement, and set the radius of the next window.

        Not before the device was waited for: a signal that arrives in the wait may save the window,
        which is then closed again.

        Args:
            slopes: The window's, as ranks agree on them.
        """
        self._radius.close(slopes)
        unit = self._inner_loop.direction == "unit"
        self._displacement.scale(-1.0 if unit else -1.0 * self._radius.now)
        self._radius.renew()

    def _gap(self, gradients: list[Tensor], atoms: Atoms, present: list[int]) -> Scalar:
        """⟨g_k, d_{k−1} − s_k⟩ of what the oracle saw."""
        if atoms.dual_norm is None:
            dual = -total(products(inners(gradients, atoms.tensors), atoms.scales))
        else:
            dual = atoms.dual_norm()
        # d_{k−1} itself lies in the ball; an oracle short of the minimum would tell less.
        along = self._displacement.along(gradients, present)
        return at_least(self._radius.now * (along + dual), 0.0)
