"""The RMS ball: an l2 ball whose radius does not depend on the number of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_fw.balls._base import Atoms, Infos
from lightning_fw.balls.l2 import L2Ball
from lightning_fw.tensors.scalars import Scalar, products, total


@dataclass(frozen=True, kw_only=True)
class RMSBall(L2Ball):
    """{d : ‖d‖₂ / √n ≤ δ} for n entries, with the atom −δ √n g / ‖g‖₂ and the dual norm √n ‖g‖₂.

    Args:
        radius: δ > 0: the root mean square of a displacement's entries.
        scope: What one ball spans: ``"tensor"``, ``"group"`` or ``"global"``; n counts the
            entries of all that it spans, but of parameters without a gradient in the step.

    Raises:
        TypeError: If ``radius`` is not a number.
        ValueError: If ``radius`` is not positive and finite, or ``scope`` is unknown.

    Example:
        >>> import torch
        >>> RMSBall(radius=0.1).lmo([torch.tensor([2.0, -2.0])])
        [tensor([-0.1000,  0.1000])]
    """

    def block_norms(self, tensors: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        lengths = self._block_lengths(tensors, infos)
        norms = super().block_norms(tensors, infos).unbind()
        return torch.stack([norm / length for norm, length in zip(norms, lengths, strict=True)])

    def block_dual_norms(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        lengths = self._block_lengths(gradients, infos)
        norms = super().block_dual_norms(gradients, infos).unbind()
        return torch.stack([norm * length for norm, length in zip(norms, lengths, strict=True)])

    def atoms(
        self,
        gradients: Sequence[Tensor],
        infos: Infos | None = None,
        norms: Sequence[Scalar] | None = None,
    ) -> Atoms:
        scales, block_norms = self._scales(gradients, infos, norms)
        lengths = self._block_lengths(gradients, infos)
        by_tensor: list[Scalar] = [0.0] * len(scales)
        for block, length in zip(self.blocks(len(gradients), infos), lengths, strict=True):
            for index in block:
                by_tensor[index] = length
        scales = products(scales, by_tensor)
        return Atoms(list(gradients), scales, lambda: total(products(block_norms, lengths)))

    def _block_lengths(self, tensors: Sequence[Tensor], infos: Infos | None) -> list[float]:
        """√n of each block."""
        return [
            sum(tensors[index].numel() for index in block) ** 0.5
            for block in self.blocks(len(tensors), infos)
        ]
