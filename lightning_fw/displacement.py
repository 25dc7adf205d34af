"""The displacement d_k: where the inner loop stands, relative to the anchor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Ball, Infos
from lightning_fw.foreach import add_scaled_, blend_, scale_, working_dtype
from lightning_fw.scalars import Scalar, on_host, scalar


class Displacement:
    """d_k / δ, one tensor per parameter, float32 under half precision.

    Args:
        parameters: The parameters that the window moves.
        cumulative: Whether to keep Σ_{j≤k} d_j / δ too.

    Attributes:
        k: Steps taken.
        noise: q_k = (1 − γ_k)² q_{k−1} + γ_k², the squared length that unit atoms of independent
            directions would leave.
        moved: Which parameters had a gradient in this window.
    """

    def __init__(self, parameters: Sequence[Tensor], *, cumulative: bool) -> None:
        self._parameters = list(parameters)
        self.tensors = zeros_beside(parameters)
        self._sum = zeros_beside(parameters) if cumulative else None
        self.reset()

    @property
    def offsets(self) -> list[Tensor]:
        """Where the next gradient is evaluated: d_k / δ, or Σ_{j≤k} d_j / δ."""
        return self.tensors if self._sum is None else self._sum

    @property
    def has_moved(self) -> bool:
        """Whether any parameter had a gradient in this window."""
        return any(self.moved)

    def reset(self) -> None:
        """d_0 = 0; the tensors keep what a direction may still alias until :meth:`clear`."""
        first = self._parameters[0]
        self.k: Scalar = 0
        if not on_host(first.device):
            self.k = torch.zeros((), dtype=working_dtype(first.dtype), device=first.device)
        self.noise: Scalar = self.k
        self.moved = [False] * len(self._parameters)

    def clear(self) -> None:
        """Zero the tensors."""
        torch._foreach_zero_(self.tensors)
        if self._sum is not None:
            torch._foreach_zero_(self._sum)

    def toward(
        self, atoms: Atoms, present: Sequence[int], step_size: Scalar, weight: Scalar
    ) -> None:
        """d_k = (1 − γ_k) d_{k−1} + γ_k s_k.

        Args:
            atoms: Unit atoms of the parameters at ``present``.
            present: Indices of the parameters that have a gradient.
            step_size: γ_k.
            weight: 1, or 0 for a step that is skipped.
        """
        gamma = step_size * weight
        mine = [self.tensors[index] for index in present]
        blend_(mine, atoms.tensors, atoms.scales, gamma)
        if self._sum is not None:
            add_scaled_([self._sum[index] for index in present], mine, [weight] * len(mine))
        self.noise = (1 - gamma) ** 2 * self.noise + gamma**2
        self.k = self.k + weight
        for index in present:
            self.moved[index] = True

    def usage(self, ball: Ball, infos: Infos | None) -> Scalar:
        """‖d_k‖ / δ, averaged over the balls that the moved parameters span."""
        moved = [index for index, moved in enumerate(self.moved) if moved]
        of_moved = None if infos is None else [infos[index] for index in moved]
        return scalar(ball.usage([self.tensors[index] for index in moved], of_moved))

    def hand_over(self, factor: Scalar) -> None:
        """p.grad ← factor · d_K / δ; the buffer itself where the dtypes agree."""
        scale_(self.tensors, factor)
        for p, direction, moved in zip(self._parameters, self.tensors, self.moved, strict=True):
            p.grad = direction.to(p.dtype) if moved else None

    def state_dict(self) -> dict[str, Any]:
        """d_k / δ, its sum, k, q_k and which parameters moved."""
        return {
            "k": int(self.k),
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
        self.k, self.noise = self.k + state["k"], self.noise + state["noise"]
        self.moved = list(state["moved"])


def zeros_beside(parameters: Sequence[Tensor]) -> list[Tensor]:
    """A zero of each parameter's shape, float32 under half precision."""
    return [
        torch.zeros_like(p, dtype=working_dtype(p.dtype), requires_grad=False) for p in parameters
    ]


def clones(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies that a checkpoint can keep."""
    return [tensor.detach().clone() for tensor in tensors]


def load(name: str, buffers: list[Tensor] | None, saved: list[Tensor] | None) -> None:
    """Copy saved tensors into buffers in place; None is what was not saved.

    Raises:
        ValueError: If they do not fit each other.
    """
    if saved is None:
        return
    mine = [tuple(tensor.shape) for tensor in buffers or []]
    theirs = [tuple(tensor.shape) for tensor in saved]
    if buffers is None or mine != theirs:
        raise ValueError(
            f"`state` has a {name} of shapes {theirs}, expected {mine}. "
            "Load it into the parameters and the InnerLoop that it was saved from."
        )
    torch._foreach_copy_(buffers, saved)
