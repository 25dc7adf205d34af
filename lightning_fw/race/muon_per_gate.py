"""Muon on the matrices of a recurrent layer, gate by gate, and AdamW on the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lightning_fw.parameters import stacked_gates


class MuonPerGate(Optimizer):
    """``torch.optim.Muon`` on each gate, and ``torch.optim.AdamW`` on what is no matrix.

    The two optimizers hold the state; it is not for checkpoints.

    Source: Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks".

    Args:
        rnn: The recurrent layer, whose matrices Muon moves.
        others: Parameters of AdamW besides the layer's vectors.
        lr: Of Muon, times √max(1, rows/columns) of a gate.
        adam_lr: Of AdamW.

    Raises:
        ModuleNotFoundError: If torch has no Muon, which came with 2.9.
    """

    def __init__(
        self, rnn: nn.Module, others: Iterable[Tensor], *, lr: float, adam_lr: float
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise ModuleNotFoundError(
                f"Muon came with torch 2.9, this is {torch.__version__}. "
                "Run pip install 'torch>=2.9'."
            )
        gates = stacked_gates(rnn)
        matrices = [p for p in rnn.parameters() if p.ndim == 2]
        rest = [p for p in rnn.parameters() if p.ndim != 2] + list(others)
        groups = [{"params": matrices, "lr": lr}, {"params": rest, "lr": adam_lr}]
        super().__init__(groups, {})
        self._gates = [(matrix, _cut(matrix, gates.get(id(matrix), 1))) for matrix in matrices]
        every_gate = [gate for _, of_matrix in self._gates for gate in of_matrix]
        self._muon = torch.optim.Muon(every_gate, lr=lr, weight_decay=0.0)
        self._adam = torch.optim.AdamW(rest, lr=adam_lr)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None if closure is None else closure()
        for matrix, gates in self._gates:
            if matrix.grad is not None:
                for gate, gradient in zip(gates, matrix.grad.chunk(len(gates)), strict=True):
                    gate.grad = gradient
        for optimizer, group in zip((self._muon, self._adam), self.param_groups, strict=True):
            # A schedule knows of these groups alone.
            optimizer.param_groups[0]["lr"] = group["lr"]
            optimizer.step()
        return loss


def _cut(matrix: Tensor, gates: int) -> list[nn.Parameter]:
    """A parameter for each gate, which shares the matrix's memory."""
    return [nn.Parameter(gate) for gate in matrix.detach().chunk(gates)]
