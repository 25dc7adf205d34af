"""The l_p ball for p between 1 and ∞."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls._vector import VectorBall
from lightning_fw.checks import require_number
from lightning_fw.tensors.foreach import power_sums, tensor_norms
from lightning_fw.tensors.scalars import Scalar


@dataclass(frozen=True, kw_only=True)
class LpBall(VectorBall):
    """{d : ‖d‖_p ≤ δ}, with the atom −δ sign(g) (∣g∣ / ‖g‖_q)^(q−1) and the dual norm ‖g‖_q.

    1/p + 1/q = 1. Powers are taken of ∣g∣ / max ∣g∣, so that no q over- or underflows.

    Args:
        p: Order of the norm, 1 < p < ∞; :class:`L1Ball` and :class:`LinfBall` are the ends.
        radius: δ > 0.
        scope: What one ball spans: ``"tensor"``, ``"group"`` or ``"global"``.

    Raises:
        TypeError: If ``p`` or ``radius`` is not a number.
        ValueError: If ``p`` is not between 1 and ∞, ``radius`` not positive and finite, or
            ``scope`` unknown.

    Example:
        >>> import torch
        >>> LpBall(2.0, radius=0.1).lmo([torch.tensor([3.0, 4.0])])
        [tensor([-0.0600, -0.0800])]
    """

    p: float = field(kw_only=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("p", self.p)
        if not (self.p > 1 and math.isfinite(self.p)):
            raise ValueError(
                f"`p` must be between 1 and infinity, got {self.p}. "
                "Pass 1 < p < inf, or use L1Ball or LinfBall for the ends."
            )

    @property
    def order(self) -> float:
        return self.p

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        q, blocks = self.dual_order, self.blocks(len(gradients), infos)
        atoms, _, powers = _shares(gradients, blocks, q)
        for block, power in zip(blocks, powers, strict=True):
            # ‖∣g∣^(q−1)‖_p = (Σ ∣g∣^q)^(1/p): the atom stays in the ball for any rounding of q.
            # The sum is at least 1 unless the gradient is zero, whose atom is 0 and not 0 / 0.
            length = power.clamp_min(1.0).pow(1 / self.p)
            for index in block:
                atoms[index].pow_(q - 1).div_(length).mul_(gradients[index].sign())
        return Atoms(atoms, [-1.0] * len(atoms))

    def _norms_of_order(
        self, order: float, tensors: Sequence[Tensor], infos: Infos | None
    ) -> Tensor:
        _, peaks, powers = _shares(tensors, self.blocks(len(tensors), infos), order)
        return torch.stack(
            [peak * power.pow(1 / order) for peak, power in zip(peaks, powers, strict=True)]
        )


def _shares(
    tensors: Sequence[Tensor], blocks: Sequence[Sequence[int]], order: float
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """|tensors| / peak, and of each block the peak max |tensors| and Σ (|tensors| / peak)^order."""
    highest = tensor_norms(tensors, math.inf)
    shares, peaks = list(tensors), []
    for block in blocks:
        peak = torch.stack([highest[index] for index in block]).amax()
        peak = peak.clamp_min(torch.finfo(peak.dtype).tiny)
        peaks.append(peak)
        for index in block:
            shares[index] = tensors[index].abs().to(peak.dtype) / peak
    sums = power_sums(shares, order)
    powers = [torch.stack([sums[index] for index in block]).sum() for block in blocks]
    return shares, peaks, powers
