"""The l2 ball: the paper's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.tensors.foreach import tensor_norms, working_dtype
from lightning_fw.tensors.scalars import (
    Scalar,
    at_least,
    hypotenuse,
    negative_inverses,
    scalars,
    total,
)


def _floor(dtype: torch.dtype) -> float:
    """The smallest norm whose square keeps its precision: √(tiny / eps), 3e-16 in float32.

    The norm of a smaller gradient cannot be trusted, squares of its entries underflow; divided by
    the floor instead, it stays in the ball, and a zero stays 0 where 0 / 0 is not.
    """
    limits = torch.finfo(working_dtype(dtype))
    return math.sqrt(limits.tiny / limits.eps)


_FLOORS = {
    dtype: _floor(dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)
}


@dataclass(frozen=True, kw_only=True)
class L2Ball(VectorBall):
    """{d : ‖d‖₂ ≤ δ}, with the atom −δ g / ‖g‖₂ and the dual norm ‖g‖₂.

    A gradient whose norm is below 3e-16 (float32; 1e-146 in float64) gets a shorter atom.

    Source: Yue, Li, Saligrama, Zhang (2020), arXiv:2010.05397.

    Args:
        radius: δ > 0.
        scope: What one ball spans: ``"tensor"``, ``"group"`` or ``"global"``.

    Raises:
        TypeError: If ``radius`` is not a number.
        ValueError: If ``radius`` is not positive and finite, or ``scope`` is unknown.

    Example:
        >>> import torch
        >>> L2Ball(radius=0.1).lmo([torch.tensor([3.0, 4.0])])
        [tensor([-0.0600, -0.0800])]
    """

    @property
    def order(self) -> float:
        return 2.0

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        scales, block_norms = self._scales(gradients, infos, norms)
        return Atoms(list(gradients), scales, partial(total, block_norms))

    def _scales(
        self, gradients: Sequence[Tensor], infos: Infos | None, norms: Sequence[Scalar] | None
    ) -> tuple[list[Scalar], Sequence[Scalar]]:
        """−1 / ‖g‖₂ of the block that each tensor belongs to, and ‖g‖₂ of each block."""
        if norms is None:
            norms = scalars(tensor_norms(gradients))
        floors = [_FLOORS[gradient.dtype] for gradient in gradients]
        if self.scope == "tensor":
            return negative_inverses(norms, floors), norms
        scales: list[Scalar] = [0.0] * len(gradients)
        block_norms = []
        for block in self.blocks(len(gradients), infos):
            norm = hypotenuse([norms[index] for index in block])
            scale = -1 / at_least(norm, max(floors[index] for index in block))
            block_norms.append(norm)
            for index in block:
                scales[index] = scale
        return scales, block_norms
