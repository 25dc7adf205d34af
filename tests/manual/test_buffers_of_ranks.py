"""Batch-norm statistics under two gloo processes."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop
from tests.mixin.conftest import Recurrent, make_loader


class Normalizing(Recurrent):
    """Measures how far apart the ranks' statistics are after each restart."""

    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__(inner_loop)
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("spread", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.norm(x))

    def on_restart(self, record) -> None:
        mine = self.norm.running_mean
        ranks = [torch.empty_like(mine), torch.empty_like(mine)]
        torch.distributed.all_gather(ranks, mine)
        self.spread.fill_(max(float(self.spread), float((ranks[0] - ranks[1]).abs().max())))


@pytest.mark.parametrize("batches", ["same", "split"])
def test_ranks_agree_after_every_restart(batches, make_trainer):
    module = Normalizing(InnerLoop(steps=2, batches=batches))
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork")
    make_trainer(strategy=ddp, devices=2).fit(module, make_loader())
    assert module.norm.num_batches_tracked > 0
    assert module.spread == 0
