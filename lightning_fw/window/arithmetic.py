"""The arithmetic of a window: from gradients to displacements, and from these to a direction."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import Any

from torch import Tensor

from lightning_fw.balls._base import Atoms
from lightning_fw.balls._first_answer import checked_atoms, is_of_this_package
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.parameters import ParameterInfo
from lightning_fw.step_sizes import checked
from lightning_fw.tensors.foreach import inners, mask_, pick, tensor_norms, working_dtype
from lightning_fw.tensors.scalars import (
    Gathered,
    Scalar,
    at_least,
    is_finite,
    masked,
    products,
    scalar,
    scalars,
    total,
)
from lightning_fw.tensors.shards import any_sharded, whole
from lightning_fw.window.displacement import Displacement
from lightning_fw.window.local import Joined
from lightning_fw.window.momentum import Momentum
from lightning_fw.window.radius import Radius
from lightning_fw.window.statistics import Seen, WindowStatistics, unless_skipped
from lightning_fw.window.whitening import Whitening


class Arithmetic:
    """All that a window computes; it reads no device, and what it changes stays at its address.

    Args:
        inner_loop: The settings.
        parameters: What the window moves.
        infos: What balls need to know of each parameter.

    Attributes:
        displacement: How far they are moved.
        radius: δ, and what sets it.
    """

    def __init__(
        self,
        inner_loop: InnerLoop,
        parameters: list[Tensor],
        infos: list[ParameterInfo] | None,
    ) -> None:
        self._inner_loop, self._infos = inner_loop, infos
        self._is_trusted = is_of_this_package(inner_loop.ball)
        cumulative = inner_loop.trajectory == "cumulative"
        self.displacement = Displacement(parameters, cumulative=cumulative)
        self._momentum = Momentum(inner_loop, parameters, infos)
        self._whitening = Whitening(inner_loop, parameters, infos)
        self.radius = Radius(inner_loop, parameters)

    def open(self, outer_step: int) -> None:
        """Start a window before this outer step."""
        self.radius.open(outer_step)
        self.displacement.reset()

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
        self.radius.meet(self.displacement.k, gradients, present, weight)
        averages = self._momentum.average(gradients, present, weight)
        white = self._whitening.answer(averages, gradients, present, weight, self.displacement)
        atoms = self._unit_atoms(white, present, norms if white is gradients else None)
        if white is not averages:
            # The ball tells the dual norm of what it saw.
            atoms = atoms._replace(dual_norm=None)
        atoms = self.radius.stretch(atoms, present, weight)
        has_rule = loop.restart_when is not None
        gap = None
        if wants_gap or loop.step_size.needs_gap or has_rule:
            gap = self._gap(averages, atoms, present)
        gamma = self._gamma(gap, atoms, present)
        self.displacement.toward(atoms, present, gamma, weight, noise=has_rule)
        return Seen(
            nan if loss is None else unless_skipped(_number(loss), weight),
            None if gap is None else unless_skipped(gap, weight),
            copies,
            weight,
        )

    def _unit_atoms(
        self, gradients: list[Tensor], present: list[int], norms: Sequence[Scalar] | None
    ) -> Atoms:
        ball, infos = self._inner_loop.ball, self._infos and pick(self._infos, present)
        if self._is_trusted:
            atoms = ball.atoms(gradients, infos, norms)
        else:
            atoms = checked_atoms(ball, gradients, infos, norms)
            # Zeros, as a skipped step has on an accelerator, are no test.
            self._is_trusted = any_sharded(gradients) or any(g.any() for g in gradients)
        if any_sharded(gradients):
            # Of a ball that divides by torch's own norms, which are DTensors there.
            scales = [whole(s) if isinstance(s, Tensor) else s for s in atoms.scales]
            atoms = atoms._replace(scales=scales)
        return atoms

    def _gamma(self, gap: Scalar | None, atoms: Atoms, present: list[int]) -> Scalar:
        """γ_k of a step toward these atoms."""
        rule, k, distance = self._inner_loop.step_size, self.displacement.k + 1, None
        if rule.needs_gap:
            length = self.displacement.squared_distance_to(atoms, present)
            distance = self.radius.now**2 * length
        return checked(rule(k, gap, distance), k)

    def end(self, joined: Joined, statistics: WindowStatistics) -> Gathered:
        """Tell of the window, which stays as it is.

        Args:
            joined: What ranks have in common.
            statistics: Of the window.

        Returns:
            What there is to tell of the window.
        """
        return statistics.values(
            self.displacement,
            self._inner_loop.ball,
            self._infos,
            self.radius.own,
            radius=self.radius.now,
            slope_ratio=self.radius.slope_ratio(joined.slopes),
            agreement=joined.agreement,
        )

    def turn(self, slopes: Tensor | None) -> None:
        """Make the direction of the displacement, and set the radius of the next window.

        Not before the device was waited for: a signal that arrives in the wait may save the window,
        which is then closed again.

        Args:
            slopes: The window's, as ranks agree on them.
        """
        self.radius.close(slopes)
        unit = self._inner_loop.direction == "unit"
        self.displacement.scale(-1.0 if unit else -1.0 * self.radius.now)
        self.radius.renew()

    def succeed(self, previous: Arithmetic) -> None:
        """Take over from one of other parameters what holds of those that both move."""
        self._momentum.succeed(previous._momentum)
        self._whitening.succeed(previous._whitening)
        self.radius.succeed(previous.radius)
        self.displacement.succeed(previous.displacement)
        if self.radius.own is not None:
            # Told in δ, the mean over other tensors.
            self.displacement.rescale(previous.radius.now / self.radius.now)

    def state_dict(self) -> dict[str, Any]:
        """Displacement, momentum and what sets the radius."""
        return {
            "displacement": self.displacement.state_dict(),
            "momentum": self._momentum.state_dict(),
            "whitening": self._whitening.state_dict(),
            "slopes": self.radius.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If it is of other parameters or other settings.
        """
        self._momentum.load_state_dict(state["momentum"])
        self._whitening.load_state_dict(state["whitening"])
        self.radius.load_state_dict(state["slopes"])
        self.displacement.load_state_dict(state["displacement"])

    def _gap(self, gradients: list[Tensor], atoms: Atoms, present: list[int]) -> Scalar:
        """⟨m_k, d_{k−1} − s_k⟩ of the averages, which whitening has not changed."""
        if atoms.dual_norm is None:
            dual = -total(products(inners(gradients, atoms.tensors), atoms.scales))
        else:
            dual = atoms.dual_norm()
        # d_{k−1} itself lies in the ball; an oracle short of the minimum would tell less.
        along = self.displacement.along(gradients, present)
        return at_least(self.radius.now * (along + dual), 0.0)


def _number(loss: Tensor) -> Scalar:
    """The loss as it is now: whoever averages it over ranks in place does so afterwards."""
    return scalar(loss.detach().reshape(()))
