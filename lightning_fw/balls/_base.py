"""The ball: the feasible set of the inner loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fw.checks import require_positive
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.foreach import working_dtype
from lightning_fw.tensors.scalars import Scalar

Infos = Sequence[ParameterInfo]

# Relative slack of `contains`: a few hundred roundings of a norm over a million entries.
_SLACK = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 1e-2,
    torch.float16: 2e-3,
}


class Atoms(NamedTuple):
    """Atoms of the ball of radius one, one per parameter: ``scales[i] * tensors[i]``.

    A multiple of the gradient stays a multiple, so that no copy of it is made.

    Attributes:
        tensors: Tensors of the parameters' shapes.
        scales: Their factors.
        dual_norm: Gives ‖g‖_* = −⟨g, atom⟩ where the ball can tell without a pass over the atoms.
    """

    tensors: Sequence[Tensor]
    scales: list[Scalar]
    dual_norm: Callable[[], Scalar] | None = None


@dataclass(frozen=True, kw_only=True)
class Ball(ABC):
    """The feasible set {d : ‖d‖ ≤ radius} of displacements.

    A ball works on a list of tensors, one per parameter. Where it spans fewer than all of them
    (``scope="tensor"``: each its own) it is the product of its blocks: its norm is the largest of
    the blocks' norms, its dual norm the sum of theirs. A subclass gives the atoms and the
    blocks' norms; the rest follows.

    Args:
        radius: δ > 0.

    Raises:
        TypeError: If ``radius`` is not a number.
        ValueError: If ``radius`` is not positive and finite.
    """

    radius: float = 1e-2

    def __post_init__(self) -> None:
        require_positive("radius", self.radius)

    @abstractmethod
    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        """Atoms at radius one: argmin over ‖s‖ ≤ 1 of ⟨gradients, s⟩; 0 for a zero gradient.

        Args:
            gradients: Gradients of finite l2 norm, one per parameter, none of them empty.
            infos: What is known of each parameter; needed by ``scope="group"``, by gates and
                by name patterns.
            norms: The gradients' l2 norms, if the caller has them already.
        """

    @abstractmethod
    def block_norms(self, tensors: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """‖tensors‖ of each block, shape (blocks,)."""

    @abstractmethod
    def block_dual_norms(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """‖gradients‖_* of each block, shape (blocks,)."""

    @property
    def is_per_tensor(self) -> bool:
        """Whether no block spans several parameters."""
        return True

    def lmo(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> list[Tensor]:
        """Linear minimization oracle: argmin over the ball of ⟨gradients, s⟩.

        Args:
            gradients: One tensor per parameter, any shapes.
            infos: What is known of each parameter.

        Returns:
            The atom, one tensor per parameter, of its gradient's shape and dtype.
        """
        atoms = self.atoms(gradients, infos)
        return [
            (tensor.to(working_dtype(tensor.dtype)) * (scale * self.radius)).to(gradient.dtype)
            for tensor, scale, gradient in zip(atoms.tensors, atoms.scales, gradients, strict=True)
        ]

    def norm(self, tensors: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """‖tensors‖, a 0-dimensional tensor: the largest of the blocks' norms."""
        return self.block_norms(tensors, infos).amax()

    def dual_norm(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """‖gradients‖_* = max over ‖s‖ ≤ 1 of ⟨gradients, s⟩, a 0-dimensional tensor."""
        return self.block_dual_norms(gradients, infos).sum()

    def contains(self, displacement: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """Whether the displacement lies in the ball, up to rounding: a boolean tensor."""
        slack = max(_SLACK.get(tensor.dtype, 0.0) for tensor in displacement)
        return self.norm(displacement, infos) <= self.radius * (1 + slack)

    def usage(self, displacement: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """Mean over the blocks of ‖displacement‖, which is in units of δ: 1 at the balls' edge."""
        return self.block_usages(displacement, infos).mean()

    def block_usages(self, displacement: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        """What :meth:`usage` is the mean of, shape (blocks,).

        A subclass whose norm is expensive may estimate it here, and says so.
        """
        return self.block_norms(displacement, infos)

    def check(self, infos: Infos) -> None:
        """Raise if the ball cannot serve these parameters; by default it can."""
