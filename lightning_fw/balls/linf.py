"""The l∞ ball: every entry moves by at most the radius."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.tensors.foreach import Entrywise, tensor_norms
from lightning_fw.tensors.scalars import Scalar, scalars, total


@dataclass(frozen=True, kw_only=True)
class LinfBall(VectorBall):
    """{d : max ∣d_i∣ ≤ δ}, with the atom −δ sign(g) and the dual norm ‖g‖₁.

    Args:
        radius: δ > 0.
        scope: What one ball spans; it changes the norms, not the atom.

    Raises:
        TypeError: If ``radius`` is not a number.
        ValueError: If ``radius`` is not positive and finite, or ``scope`` is unknown.

    Example:
        >>> import torch
        >>> LinfBall(radius=0.1).lmo([torch.tensor([3.0, 0.0, -4.0])])
        [tensor([-0.1000, -0.0000,  0.1000])]
    """

    @property
    def order(self) -> float:
        return float("inf")

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        signs = Entrywise(torch.sign, gradients)
        return Atoms(signs, [-1.0] * len(signs), lambda: total(scalars(tensor_norms(gradients, 1))))
