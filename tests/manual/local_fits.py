"""Fits on two gloo processes with windows apart, and the same in one process by hand."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from lightning_fw import InnerLoop
from lightning_fw.window import Window
from tests.mixin.conftest import Recurrent, make_loader

BATCH, SAMPLES, RANKS = 4, 56, 2


def samples() -> Any:
    dataset = make_loader(samples=SAMPLES).dataset
    dataset.tensors = tuple(tensor.double() for tensor in dataset.tensors)
    return dataset


class Apart(Recurrent):
    """Each rank takes its part of the same samples, in order, and tells what it sees.

    Buffers come back from the processes with the weights: the largest difference between the ranks'
    weights after a restart, messages at restarts, and gradient buckets that DDP reduced.
    """

    def __init__(self, inner_loop: InnerLoop, lr: float = 1.0) -> None:
        super().__init__(inner_loop, lr)
        for name in ("spread", "messages", "buckets", "outside"):
            self.register_buffer(name, torch.zeros((), dtype=torch.float64))
        self.agreements: list[float] = []

    def train_dataloader(self):
        return DataLoader(samples(), BATCH, sampler=range(self.global_rank, SAMPLES, RANKS))

    def on_train_start(self) -> None:
        reduce, module = torch.distributed.all_reduce, self

        def counted(tensor, *args, **kwargs):
            # And not the two numbers of batches that ranks compare where an epoch begins.
            module.messages += tensor.numel() > 2
            return reduce(tensor, *args, **kwargs)

        torch.distributed.all_reduce = counted

        def counted_bucket(state, bucket):
            module.buckets += 1
            return torch.distributed.algorithms.ddp_comm_hooks.default_hooks.allreduce_hook(
                None, bucket
            )

        self.trainer.strategy.model.register_comm_hook(None, counted_bucket)

    def on_before_optimizer_step(self, optimizer) -> None:
        ball = self.inner_loop.ball
        d = [ball.radius * p.grad for p in self.parameters() if p.grad is not None]
        self.outside += int(not ball.contains(d))

    def on_restart(self, record) -> None:
        super().on_restart(record)
        self.agreements.append(record.agreement)
        mine = self.weights()
        ranks = [torch.empty_like(mine) for _ in range(RANKS)]
        torch.distributed.all_gather(ranks, mine)
        self.spread.fill_(max(float(self.spread), float((ranks[0] - ranks[1]).abs().max())))


def fit(make_trainer, module: Recurrent, **settings: Any) -> Recurrent:
    ddp = L.pytorch.strategies.DDPStrategy(start_method="fork", **settings.pop("ddp", {}))
    make_trainer(
        strategy=ddp,
        devices=RANKS,
        precision="64-true",
        use_distributed_sampler=False,
        max_epochs=2,
        **settings,
    ).fit(module.double())
    return module


def by_hand(
    loop: InnerLoop, lr: float = 1.0, epochs: int = 2, limits: tuple[int, ...] = (7, 7)
) -> torch.Tensor:
    """Windows of both ranks, one after the other from the same anchor, and SGD along their mean.

    The mean is over those that took a step: a rank is out of batches after its limit.
    """
    module = Recurrent(loop).double()
    parameters = list(module.parameters())
    outer = torch.optim.SGD(parameters, lr=lr)
    windows = [Window(loop, parameters) for _ in range(RANKS)]
    batches = [
        list(DataLoader(samples(), BATCH, sampler=range(rank, SAMPLES, RANKS)))[:limit]
        for rank, limit in zip(range(RANKS), limits, strict=True)
    ]
    for _ in range(epochs):
        for start in range(0, max(limits), loop.steps):
            directions = []
            for window, mine in zip(windows, batches, strict=True):
                if not mine[start:]:
                    continue
                for x, y in mine[start : start + loop.steps]:
                    with window.displaced():
                        torch.nn.functional.mse_loss(module(x), y).backward()
                    window.step()
                window.close()
                directions.append([p.grad.clone() for p in parameters])
                for p in parameters:
                    p.grad = None
            for p, *all_of_them in zip(parameters, *directions, strict=True):
                p.grad = sum(all_of_them) / len(directions)
            outer.step()
    return module.weights()
