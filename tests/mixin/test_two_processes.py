"""Two gloo processes follow one process on the joined batches."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_fw import InnerLoop, L2Ball, SlopeRatio
from lightning_fw.restarts import RestartRule
from tests.mixin.conftest import Recurrent, make_loader


class OneRankWants(RestartRule):
    """Closes after two steps; under several ranks only the last one asks for it."""

    def __call__(self, progress):
        distributed = torch.distributed.is_initialized()
        is_last = not distributed or torch.distributed.get_rank() == 1
        return is_last and progress.k >= 2


class Shared(Recurrent):
    """Each rank takes its part of the same samples, in order."""

    def __init__(self, inner_loop, batch_size):
        super().__init__(inner_loop, lr=1.0)
        self.batch_size = batch_size

    def train_dataloader(self):
        dataset = make_loader(samples=56).dataset
        dataset.tensors = tuple(tensor.double() for tensor in dataset.tensors)
        mine = range(self.global_rank, 56, self.trainer.world_size)
        return DataLoader(dataset, self.batch_size, sampler=mine)


@pytest.mark.parametrize("restart_when", [None, OneRankWants()], ids=["full", "early"])
def test_two_processes_follow_one_on_the_joined_batches(restart_when, make_trainer):
    loop = InnerLoop(
        ball=L2Ball(radius=0.02),
        steps=3,
        momentum=0.5,
        radius_rule=SlopeRatio(),
        direction="displacement",
        restart_when=restart_when,
    )

    def fit(batch_size, **settings):
        module = Shared(loop, batch_size).double()
        settings = {"precision": "64-true", "use_distributed_sampler": False, **settings}
        make_trainer(max_epochs=2, **settings).fit(module)
        return module.weights()

    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork")
    torch.testing.assert_close(fit(4, strategy=ddp, devices=2), fit(8), rtol=1e-9, atol=1e-12)
