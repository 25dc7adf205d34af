"""Layers split over ranks (tensor parallelism), alone and with weights in parts besides."""

from __future__ import annotations

import os
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import FrankWolfeMixin, InnerLoop, L1Ball, L2Ball, LpBall, SpectralBall
from tests.ranks import on_ranks
from tests.several_ranks.sharded_fits import import_fully_shard, weights

SAMPLES, BATCH = 32, 8
LOOPS = {
    "l2": InnerLoop(ball=L2Ball(radius=0.05, scope="global"), steps=2, momentum=0.5),
    "l1": InnerLoop(ball=L1Ball(radius=0.05), steps=2),
    "lp": InnerLoop(ball=LpBall(3.0, radius=0.05), steps=2),
    "spectral": InnerLoop(ball=SpectralBall(radius=0.05), steps=2),
}


class Split(FrankWolfeMixin, L.LightningModule):
    """Its first layer is split along its outputs, its second along its inputs."""

    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner_loop = inner_loop
        self.net = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()

    def configure_model(self) -> None:
        if self.trainer.world_size == 1:
            return
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
        parallelize_module(self.net, self.device_mesh["tensor_parallel"], plan)
        if self.device_mesh["data_parallel"].size() > 1:
            import_fully_shard()(self.net, mesh=self.device_mesh["data_parallel"])

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner_loop

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return (self.net(x) - y).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(SAMPLES, 3, generator=generator, dtype=torch.float64)
        several = self.trainer.world_size > 1
        mesh = self.device_mesh["data_parallel"] if several else None
        place, count = (mesh.get_local_rank(), mesh.size()) if mesh else (0, 1)
        mine = range(place, SAMPLES, count)
        return DataLoader(TensorDataset(x, x[:, :2].square()), BATCH // count, sampler=mine)


def fits(data_parallel: int) -> dict[str, Tensor]:
    warnings.simplefilter("ignore")
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    ends = {}
    for name, loop in LOOPS.items():
        strategy = ModelParallelStrategy(data_parallel, ranks // data_parallel)
        module = Split(loop)
        L.Trainer(
            accelerator="cpu",
            devices=ranks,
            strategy=strategy if ranks > 1 else "auto",
            max_epochs=2,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        ).fit(module)
        ends[name] = weights(module)
    return ends


NEEDS_UNEVEN_PARTS = pytest.mark.skipif(
    torch.__version__ < (2, 10),
    reason="six outputs on four ranks, FSDP2 of split layers, come whole as of torch 2.10",
)


@pytest.mark.parametrize(
    ("ranks", "data_parallel"),
    [
        pytest.param(2, 1, id="alone"),
        pytest.param(4, 2, id="with FSDP2", marks=NEEDS_UNEVEN_PARTS),
    ],
)
def test_split_layers_go_the_same_way(ranks, data_parallel):
    whole = fits(1)
    for ends in on_ranks(fits, data_parallel, ranks=ranks):
        for name in LOOPS:
            torch.testing.assert_close(ends[name], whole[name], rtol=1e-8, atol=1e-9, msg=name)
