"""The l1 ball: one entry of each ball moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.scalars import Scalar


@dataclass(frozen=True, kw_only=True)
class L1Ball(VectorBall):
    """{d : Σ |d_i| ≤ δ}, with the atom −δ sign(g_i) e_i at i = argmax |g| and the dual norm ‖g‖∞.

    Among equal entries the first is taken.

    Args:
        radius: δ > 0.
        scope: What one ball spans: ``"tensor"``, ``"group"`` or ``"global"``.

    Example:
        >>> import torch
        >>> L1Ball(radius=0.1).lmo([torch.tensor([3.0, -4.0])])
        [tensor([0.0000, 0.1000])]
    """

    @property
    def order(self) -> float:
        return 1.0

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        atoms = [
            torch.zeros_like(gradient, memory_format=torch.contiguous_format)
            for gradient in gradients
        ]
        for block in self.blocks(len(gradients), infos):
            peaks, places = zip(
                *(gradients[index].reshape(-1).abs().max(dim=0) for index in block), strict=True
            )
            winner = torch.stack(peaks).argmax()
            for position, index in enumerate(block):
                place = places[position].reshape(1)
                downhill = -gradients[index].reshape(-1).gather(0, place).sign()
                atoms[index].view(-1).scatter_(0, place, downhill * (winner == position))
        return Atoms(atoms, [1.0] * len(atoms))
