"""The l1 ball: one entry of each ball moves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.foreach import tensor_norms
from lightning_fw.scalars import Scalar
from lightning_fw.shards import any_sharded, over_ranks, parts, place_among_ranks

# Beyond any rank.
_NOWHERE = 2**31 - 1


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
        peaks, mine = _peaks(gradients)
        for block in self.blocks(len(gradients), infos):
            winner = torch.stack([peaks[index] for index in block]).argmax()
            for position, index in enumerate(block):
                (part,), (atom,) = parts([gradients[index]]), parts([atoms[index]])
                if part.numel():
                    place = part.reshape(-1).abs().argmax().reshape(1)
                    downhill = -part.reshape(-1).gather(0, place).sign()
                    moves = (winner == position) & mine[index]
                    atom.view(-1).scatter_(0, place, downhill * moves)
        return Atoms(atoms, [1.0] * len(atoms))


def _peaks(gradients: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor | bool]]:
    """max |g| of each tensor, and whether this rank holds its first entry of that size."""
    peaks = tensor_norms(gradients, math.inf)
    mine: list[Tensor | bool] = [True] * len(peaks)
    if any_sharded(gradients):
        own = tensor_norms(parts(gradients), math.inf)
        places = [
            torch.where(here == peak, place_among_ranks(gradient), _NOWHERE)
            for here, peak, gradient in zip(own, peaks, gradients, strict=True)
        ]
        firsts = over_ranks(places, gradients, "min")
        mine = [place == first for place, first in zip(places, firsts, strict=True)]
    return peaks, mine
