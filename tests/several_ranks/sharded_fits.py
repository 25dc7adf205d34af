"""The same fit with whole weights in one process and with weights in parts on two ranks (FSDP2)."""

from __future__ import annotations

import os
import warnings
from dataclasses import asdict
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import FrankWolfeMixin, FWRestartMonitor, InnerLoop

SAMPLES, BATCH, RANKS = 40, 8, 2

NEEDS_FSDP2_ON_CPUS = pytest.mark.skipif(
    torch.__version__ < (2, 7), reason="FSDP2 runs on CPUs as of torch 2.7"
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(2, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        prediction: Tensor = self.head(self.lstm(x)[0][:, -1])
        return prediction


class Unheard(FrankWolfeMixin, L.LightningModule):
    """An LSTM with a head, float64; on several ranks in parts, the plain bias excepted.

    The head's bias has one entry, so that rank 1 holds an empty part of it.
    """

    def __init__(self, inner_loop: InnerLoop, lr: float = 0.05) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner_loop, self.lr = inner_loop, lr
        self.net = Net().double()
        self.plain = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def configure_model(self) -> None:
        if self.trainer.world_size > 1:
            fully_shard = import_fully_shard()
            mesh = self.device_mesh["data_parallel"]
            fully_shard(self.net.head, mesh=mesh)
            fully_shard(self.net, mesh=mesh)

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner_loop

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        return (self.net(x) + self.plain - y).square().mean()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        return self.loss(batch)

    def on_train_start(self) -> None:
        if self.trainer.world_size > 1:
            # FSDP2 averages the gradients of its own parameters alone.
            self.plain.register_hook(_mean_over_ranks)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self) -> DataLoader:
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(SAMPLES, 6, 2, generator=generator, dtype=torch.float64)
        world = self.trainer.world_size
        mine = range(self.trainer.global_rank, SAMPLES, world)
        return DataLoader(TensorDataset(x, x.sum((1, 2))[:, None]), BATCH // world, sampler=mine)

    def val_dataloader(self) -> DataLoader:
        return self.train_dataloader()


class Sharded(Unheard):
    """Keeps the records of its windows."""

    def __init__(self, inner_loop: InnerLoop, lr: float = 0.05) -> None:
        super().__init__(inner_loop, lr)
        self.records: list[dict[str, Any]] = []

    def on_restart(self, record: Any) -> None:
        super().on_restart(record)
        self.records.append(asdict(record))


def import_fully_shard() -> Any:
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        # Its home in torch 2.5.
        from torch.distributed._composable.fsdp import fully_shard
    return fully_shard


def _mean_over_ranks(gradient: Tensor) -> Tensor:
    total = gradient.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def make_trainer(distributed_checkpoint: bool = True, **settings: Any) -> L.Trainer:
    """On as many ranks as the environment tells, by default without anything on disk."""
    warnings.simplefilter("ignore")
    ranks = int(os.environ.get("WORLD_SIZE", 1))
    strategy: Any = "auto"
    if ranks > 1:
        strategy = ModelParallelStrategy(ranks, 1, distributed_checkpoint)
    defaults = {
        "max_epochs": 2,
        "callbacks": [FWRestartMonitor(table=False)],
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "limit_val_batches": 0,
    }
    return L.Trainer(
        accelerator="cpu", devices=ranks, strategy=strategy, **{**defaults, **settings}
    )


def weights(module: nn.Module) -> Tensor:
    """All weights in one vector, gathered from the ranks."""
    wholes = [getattr(p.detach(), "full_tensor", p.detach)() for p in module.parameters()]
    return torch.cat([p.reshape(-1) for p in wholes])
