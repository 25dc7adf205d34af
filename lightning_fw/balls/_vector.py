"""Balls that see a block of parameters as one long vector."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_fw.balls._base import Ball, Infos
from lightning_fw.checks import require_choice
from lightning_fw.tensors.foreach import tensor_norms

Scope = Literal["tensor", "group", "global"]


@dataclass(frozen=True, kw_only=True)
class VectorBall(Ball):
    """An l_p ball, and what one of it spans.

    Args:
        radius: δ > 0.
        scope: ``"tensor"``: every parameter has its own ball; ``"group"``: every param group of
            the optimizer; ``"global"``: all parameters share one.

    Raises:
        TypeError: If ``radius`` is not a number.
        ValueError: If ``radius`` is not positive and finite, or ``scope`` is unknown.
    """

    scope: Scope = "tensor"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("scope", self.scope, get_args(Scope))

    @property
    @abstractmethod
    def order(self) -> float:
        """p of the norm."""

    @property
    def dual_order(self) -> float:
        """q of the dual norm: 1/p + 1/q = 1."""
        if self.order == 1:
            return float("inf")
        return 1.0 if self.order == float("inf") else self.order / (self.order - 1)

    @property
    def is_per_tensor(self) -> bool:
        return self.scope == "tensor"

    def blocks(self, count: int, infos: Infos | None = None) -> list[list[int]]:
        """Indices of the parameters that share one ball, for ``count`` parameters."""
        if self.scope == "tensor":
            return [[index] for index in range(count)]
        if self.scope == "global" or infos is None:
            return [list(range(count))]
        members: dict[int, list[int]] = {}
        for index, info in enumerate(infos):
            members.setdefault(info.group, []).append(index)
        return list(members.values())

    def block_norms(self, tensors: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return self._norms_of_order(self.order, tensors, infos)

    def block_dual_norms(self, gradients: Sequence[Tensor], infos: Infos | None = None) -> Tensor:
        return self._norms_of_order(self.dual_order, gradients, infos)

    def _norms_of_order(
        self, order: float, tensors: Sequence[Tensor], infos: Infos | None
    ) -> Tensor:
        norms = tensor_norms(tensors, order)
        if self.scope == "tensor":
            return torch.stack(norms)
        joined = [
            torch.linalg.vector_norm(torch.stack([norms[index] for index in block]), order)
            for block in self.blocks(len(tensors), infos)
        ]
        return torch.stack(joined)
