"""The displacement d_k: where the inner loop stands, relative to the anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.tensors.foreach import (
    add_scaled_,
    blend_,
    fill_scaled_,
    inner,
    inners,
    pick,
    scale_,
    working_dtype,
    zero_,
)
from lightning_fw.tensors.scalars import Scalar, on_host, scalar, total
from lightning_fw.tensors.shards import whole
from lightning_fw.window.buffers import clones, copy_shared, load, places, zeros_beside

# Below it the factor is written into the tensors: far from overflow of 1 / factor in float32.
_SMALLEST_FACTOR = 1e-3


class Displacement:
    """d_k / δ, one tensor per parameter, float32 under half precision.

    Held as a factor times tensors, so that a step on the host shrinks the past by one
    multiplication of floats and passes over the parameters once, to add the atom.

    Args:
        parameters: The parameters that the window moves.
        cumulative: Whether to keep Σ_{j≤k} d_j / δ too.

    Attributes:
        k: Steps taken.
        noise: q_k = (1 − γ_k)² q_{k−1} + γ_k² ‖s_k‖₂² / δ², the squared length that atoms of
            independent directions would leave, where it is asked for.
        factor: d_k / δ = factor · tensors; 0 before the first step.
        moved: Which parameters had a gradient in this window.
    """

    def __init__(self, parameters: Sequence[Tensor], *, cumulative: bool) -> None:
        self._parameters = list(parameters)
        self.tensors = zeros_beside(parameters)
        self._sum = zeros_beside(parameters) if cumulative else None
        first = parameters[0]
        # Numbers of a device stay at their addresses, as a CUDA graph needs them to.
        numbers = torch.zeros(2, dtype=working_dtype(first.dtype), device=first.device)
        self._numbers = None if on_host(first.device) else numbers
        self._handed_over: list[tuple[Tensor, Tensor]] = []
        self.reset()

    @property
    def offsets(self) -> tuple[list[Tensor], Scalar]:
        """Where the next gradient is evaluated, d_k / δ or Σ_{j≤k} d_j / δ: tensors, factor."""
        return (self.tensors, self.factor) if self._sum is None else (self._sum, 1.0)

    @property
    def has_moved(self) -> bool:
        """Whether any parameter had a gradient in this window."""
        return any(self.moved)

    def reset(self) -> None:
        """d_0 = 0, as the factor; a direction handed over may alias the tensors still."""
        self.factor: float = 0.0
        self.k: Scalar = 0
        self.noise: Scalar = 0
        if self._numbers is not None:
            self.k, self.noise = self._numbers.zero_().unbind()
        self.moved = [False] * len(self._parameters)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # A pickle keeps views as tensors of their own.
        if self._numbers is not None:
            self.k, self.noise = self._numbers.unbind()

    def along(self, gradients: Sequence[Tensor], present: Sequence[int]) -> Scalar:
        """⟨g, d_k⟩ / δ over the parameters at ``present``."""
        if self.factor == 0:
            return 0.0
        return self.factor * inner(gradients, pick(self.tensors, present))

    def squared_distance_to(self, atoms: Atoms, present: Sequence[int]) -> Scalar:
        """‖d_k − s‖₂² / δ²; ``atoms`` are those of the parameters at ``present``."""
        if self.factor == 0:
            # The tensors hold what others made of the direction before, an infinity perhaps.
            return _squared_length(atoms)
        differences = [
            self.tensors[index] * self.factor - tensor.to(self.tensors[index].dtype) * scale
            for index, tensor, scale in zip(present, atoms.tensors, atoms.scales, strict=True)
        ]
        differences += [tensor * self.factor for tensor in self._moved_without(present)]
        return inner(differences, differences)

    def toward(
        self,
        atoms: Atoms,
        present: Sequence[int],
        step_size: Scalar,
        weight: Scalar,
        *,
        noise: bool = False,
    ) -> None:
        """d_k = (1 − γ_k) d_{k−1} + γ_k s_k.

        A parameter without a gradient has the atom 0, as one with a zero gradient: a ball that
        spans it and others would be left else.

        Args:
            atoms: Unit atoms of the parameters at ``present``.
            present: Indices of the parameters that have a gradient.
            step_size: γ_k.
            weight: 1, or 0 for a step that is skipped.
            noise: Whether to follow q_k, which costs a pass over the atoms.
        """
        gamma = step_size * weight
        if isinstance(gamma, Tensor) or len(present) < len(self.tensors):
            self._fold()
            scale_(self._moved_without(present), 1 - gamma)
            blend_(pick(self.tensors, present), atoms.tensors, atoms.scales, gamma)
        else:
            self._shrink(1 - gamma)
            put = add_scaled_ if self.factor else fill_scaled_
            self.factor = self.factor or 1.0
            put(self.tensors, atoms.tensors, [gamma / self.factor * s for s in atoms.scales])
        if noise:
            self.noise *= (1 - gamma) ** 2
            self.noise += gamma**2 * _squared_length(atoms)
        self.k += weight
        self.mark_moved(present)
        if self._sum is not None:
            self._add_to_sum(weight)

    def note(self, factor: float, moved: list[bool]) -> None:
        """Stand where the factor was this, and these had moved."""
        self.factor, self.moved = factor, moved

    def mark_moved(self, present: Sequence[int]) -> None:
        """Note what a step did beside its arithmetic, which a replayed CUDA graph leaves out."""
        for index in present:
            self.moved[index] = True
        if self._numbers is not None:
            self.factor = 1.0

    def _moved_without(self, present: Sequence[int]) -> list[Tensor]:
        """The tensors that moved in this window, but not those at ``present``."""
        if len(present) == len(self.tensors):
            return []
        there = set(present)
        return [
            tensor
            for index, (tensor, moved) in enumerate(zip(self.tensors, self.moved, strict=True))
            if moved and index not in there
        ]

    def length(self) -> Scalar:
        """‖d_k‖₂ / δ."""
        return self.factor * inner(self.tensors, self.tensors) ** 0.5

    def _shrink(self, share: float) -> None:
        """d_{k−1} becomes that share of itself; where nothing is left, the tensors stay."""
        self.factor *= share
        if self.factor == 0:
            self._clear_sum()
        elif self.factor < _SMALLEST_FACTOR:
            self._fold()

    def _clear_sum(self) -> None:
        if self._sum is not None and not self.has_moved:
            zero_(self._sum)

    def _fold(self) -> None:
        """Write the factor into the tensors."""
        if self.factor == 0:
            zero_(self.tensors)
            self._clear_sum()
        elif self.factor != 1:
            scale_(self.tensors, self.factor)
        self.factor = 1.0

    def _add_to_sum(self, weight: Scalar) -> None:
        assert self._sum is not None
        moved = [index for index, moved in enumerate(self.moved) if moved]
        add_scaled_(
            pick(self._sum, moved), pick(self.tensors, moved), [self.factor * weight] * len(moved)
        )

    def unfactored(self) -> list[Tensor]:
        """d_k / δ itself: the tensors with the factor written into them."""
        self._fold()
        return self.tensors

    def usage(self, ball: Ball, infos: Infos | None, own: Sequence[Scalar] | None = None) -> Scalar:
        """‖d_k‖ / δ, averaged over the balls that the moved parameters span.

        Args:
            ball: The ball.
            infos: What it needs to know of each parameter.
            own: δ_i / δ of each parameter, where they differ: ‖d_k‖ is then told in δ_i.
        """
        moved = [index for index, moved in enumerate(self.moved) if moved]
        of_moved = None if infos is None else [infos[index] for index in moved]
        tensors = [self.tensors[i] if own is None else self.tensors[i] / own[i] for i in moved]
        usage = ball.usage(tensors, of_moved)
        return self.factor * scalar(whole(usage))

    def scale(self, factor: Scalar) -> None:
        """The tensors become factor · d_K / δ, to be handed over."""
        scale_(self.tensors, factor * self.factor)

    def hand_over(self) -> None:
        """p.grad ← the tensors; the buffer itself where dtypes and strides agree.

        One frozen since its gradient came gets its direction too, as it would of accumulated
        gradients.
        """
        self._handed_over = [
            (p, _as_gradient(direction, p))
            for p, direction, moved in zip(self._parameters, self.tensors, self.moved, strict=True)
            if moved
        ]
        for p in self._parameters:
            p.grad = None
        for p, direction in self._handed_over:
            p.grad = direction

    def take_back(self) -> None:
        """Forget what was handed over, which is dropped from ``p.grad``."""
        self._handed_over = []

    @property
    def is_handed_over(self) -> bool:
        """Whether a ``p.grad`` is still what was handed over."""
        return any(p.grad is direction for p, direction in self._handed_over)

    def succeed(self, previous: Displacement) -> None:
        """Stand where another one stands with the parameters that both hold."""
        copy_shared(self.tensors, self._parameters, previous.tensors, previous._parameters)
        if self._sum is not None and previous._sum is not None:
            copy_shared(self._sum, self._parameters, previous._sum, previous._parameters)
        self.factor = previous.factor
        self.k += previous.k
        self.noise += previous.noise
        self._handed_over = previous._handed_over
        theirs = places(self._parameters, previous._parameters)
        self.moved = [place is not None and previous.moved[place] for place in theirs]

    def rescale(self, ratio: Scalar) -> None:
        """Stand at the same d_k, told in a radius that many times smaller."""
        scale_(self.tensors, ratio)
        if self._sum is not None:
            scale_(self._sum, ratio)
        self.noise *= ratio**2

    def state_dict(self) -> dict[str, Any]:
        """d_k / δ, its sum, k, q_k and which parameters moved."""
        return {
            "k": int(self.k),
            "factor": self.factor,
            "noise": float(self.noise),
            "moved": list(self.moved),
            "tensors": clones(self.tensors) if self.has_moved else None,
            "sum": clones(self._sum) if self._sum and self.has_moved else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: If the state is of other parameters or another trajectory.
        """
        self.reset()
        load("displacement", self.tensors, state["tensors"])
        load("cumulative displacement", self._sum, state["sum"])
        self.factor = state["factor"]
        self.k += state["k"]
        self.noise += state["noise"]
        self.moved = list(state["moved"])


def _squared_length(atoms: Atoms) -> Scalar:
    squares = inners(atoms.tensors, atoms.tensors)
    return total([scale**2 * square for scale, square in zip(atoms.scales, squares, strict=True)])


def _as_gradient(direction: Tensor, parameter: Tensor) -> Tensor:
    """The direction as backward leaves gradients: fused optimizers read them side by side."""
    # Newer torch lets a gradient have a dtype of its own: float32 of weights in half precision.
    dtype = getattr(parameter, "grad_dtype", None) or parameter.dtype
    if direction.stride() == parameter.stride():
        return direction.to(dtype)
    return torch.empty_like(parameter, dtype=dtype, requires_grad=False).copy_(direction)
