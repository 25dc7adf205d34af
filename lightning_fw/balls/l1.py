"""The l1 ball: one entry of each ball moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.tensors.scalars import Scalar
from lightning_fw.tensors.shards import any_sharded, over_ranks, parts, place_among_ranks

# Beyond any rank.
_NOWHERE = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class L1Ball(VectorBall):
    """{d : Σ ∣d_i∣ ≤ δ}, with the atom −δ sign(g_i) e_i at i = argmax ∣g∣ and the dual norm ‖g‖∞.

    Among equal entries the first is taken.

    Args:
        radius: δ > 0.
        scope: What one ball spans: ``"tensor"``, ``"group"`` or ``"global"``.

    Raises:
        TypeError: If ``radius`` is not a number.
        ValueError: If ``radius`` is not positive and finite, or ``scope`` is unknown.

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
        own, own_atoms = parts(gradients), parts(atoms)
        found = [_peak(part) for part in own]
        peaks, mine = _over_ranks([peak for peak, _ in found], gradients)
        for block in self.blocks(len(gradients), infos):
            winner = torch.stack([peaks[index] for index in block]).argmax()
            for position, index in enumerate(block):
                part, (_, place) = own[index], found[index]
                if part.numel():
                    downhill = -part.reshape(-1).gather(0, place.reshape(1)).sign()
                    moves = (winner == position) & mine[index]
                    own_atoms[index].view(-1).scatter_(0, place.reshape(1), downhill * moves)
        return Atoms(atoms, [1.0] * len(atoms))


def _peak(part: Tensor) -> tuple[Tensor, Tensor]:
    """max ∣g∣ and its place, 0 in a rank's empty part."""
    if not part.numel():
        return part.new_zeros(()), torch.zeros((), dtype=torch.int64, device=part.device)
    values, places = part.reshape(-1).abs().max(dim=0)
    return values, places


def _over_ranks(
    own: list[Tensor], gradients: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor | bool]]:
    """max ∣g∣ of each tensor from those of parts, and whether the first of that size is here."""
    if not any_sharded(gradients):
        return own, [True] * len(own)
    peaks = over_ranks(own, gradients, "max")
    places = [
        torch.where(here == peak, place_among_ranks(gradient), _NOWHERE)
        for here, peak, gradient in zip(own, peaks, gradients, strict=True)
    ]
    firsts = over_ranks(places, gradients, "min")
    return peaks, [place == first for place, first in zip(places, firsts, strict=True)]
