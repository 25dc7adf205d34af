"""The network of `elman` in torch, float64: autograd's side of the comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .elman import Weights


class Elman(nn.Module):
    """`reference.elman` in torch, float64."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        for name, value in weights.items():
            setattr(self, name, nn.Parameter(torch.tensor(value)))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, 3) to (batch, 2)."""
        hidden = x.new_zeros(x.shape[0], self.b.shape[0])
        for step in x.unbind(1):
            hidden = torch.tanh(step @ self.w_ih.T + hidden @ self.w_hh.T + self.b)
        return hidden @ self.w_ho.T + self.c

    def mean_squared_error(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """The training loss."""
        x, y = batch
        return nn.functional.mse_loss(self(x), y)
