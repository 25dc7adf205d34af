"""Batch-norm statistics under two gloo processes."""

from __future__ import annotations

from inspect import signature

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
        self.register_buffer("rank", torch.zeros((), dtype=torch.int64))
        # One more than float32 holds.
        self.register_buffer("count", torch.tensor(2**24 + 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Anew in every batch: at the first DDP itself sends those of rank 0.
        self.rank.fill_(self.global_rank)
        return super().forward(self.norm(x))

    def distance(self) -> float:
        mine = self.norm.running_mean
        ranks = [torch.empty_like(mine), torch.empty_like(mine)]
        torch.distributed.all_gather(ranks, mine)
        return float((ranks[0] - ranks[1]).abs().max())

    def on_restart(self, record) -> None:
        self.spread.fill_(max(float(self.spread), self.distance(), int(self.rank)))


class NormalizingApart(Normalizing):
    """Notes the distance at the second batch of the first window, where DDP would have none."""

    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__(inner_loop)
        self.register_buffer("between", torch.zeros(()))

    def training_step(self, batch, batch_idx):
        if batch_idx == 1:
            self.between.fill_(self.distance())
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
def test_ranks_agree_after_every_restart(batches, make_trainer):
    module = Normalizing(InnerLoop(steps=2, batches=batches))
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork")
    make_trainer(strategy=ddp, devices=2).fit(module, make_loader())
    assert module.norm.num_batches_tracked > 0
    assert module.count == 2**24 + 1
    assert module.spread == 0


def test_windows_apart_send_no_buffers_before_the_restart(make_trainer):
    module = NormalizingApart(InnerLoop(steps=2, sync="restart"))
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork")
    make_trainer(strategy=ddp, devices=2).fit(module, make_loader())
    assert module.between > 0
    assert module.spread == 0


NEEDS_THE_NEW_NAME = pytest.mark.skipif(
    "forward_sync_buffers" not in signature(nn.parallel.DistributedDataParallel).parameters,
    reason="needs a torch whose DDP has forward_sync_buffers",
)


@pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated")
@pytest.mark.parametrize(
    "setting",
    ["broadcast_buffers", pytest.param("forward_sync_buffers", marks=NEEDS_THE_NEW_NAME)],
)
def test_a_user_may_leave_them_to_each_rank(setting, make_trainer):
    module = Normalizing(InnerLoop(steps=2, sync="restart"))
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork", **{setting: False})
    make_trainer(strategy=ddp, devices=2).fit(module, make_loader())
    assert module.spread > 0


class Ignoring(Normalizing):
    """Notes the sum of a buffer that DDP is to leave to each rank."""

    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__(inner_loop)
        ddp = nn.parallel.DistributedDataParallel
        ddp._set_params_and_buffers_to_ignore_for_model(self, ["rank"])

    def on_restart(self, record) -> None:
        ranks = self.rank.clone()
        torch.distributed.all_reduce(ranks)
        self.spread.fill_(ranks)


def test_a_user_may_leave_one_of_them_to_each_rank(make_trainer):
    module = Ignoring(InnerLoop(steps=2))
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork")
    make_trainer(strategy=ddp, devices=2).fit(module, make_loader())
    assert module.spread == 1


class Averaged(Normalizing):
    """Notes the distance after the last epoch, which has no restarts."""

    def on_train_epoch_end(self) -> None:
        self.spread.fill_(self.distance())


@pytest.mark.parametrize("sync", ["step", "restart"])
def test_ranks_agree_after_the_epoch_that_renews_statistics_of_averaged_weights(sync, make_trainer):
    module = Averaged(InnerLoop(steps=2, sync=sync))
    averaging = L.pytorch.callbacks.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork")
    trainer = make_trainer(strategy=ddp, devices=2, max_epochs=2, callbacks=[averaging])
    trainer.fit(module, make_loader())
    assert module.norm.num_batches_tracked == 4
    assert module.spread == 0
