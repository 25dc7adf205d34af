"""Fits whose ranks' batches, put together, are the batches of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lightning_fw import InnerLoop, L2Ball, OpenLoop, RestartRecord, SlopeRatio
from tests.mixin.conftest import Recurrent

# Of one process; a rank's are its part of them. A rank's batch makes three even chunks.
BATCH, BATCHES = 12, 7


def loop(batches: str = "successive", **settings: Any) -> InnerLoop:
    """Settings under which every step depends on all gradients before it."""
    return InnerLoop(
        **{
            "ball": L2Ball(radius=0.02),
            "steps": 3,
            "step_size": OpenLoop(),
            "momentum": 0.5,
            "radius_rule": None if batches == "same" else SlopeRatio(),
            "direction": "displacement",
            "batches": batches,
            **settings,
        }
    )


def samples() -> TensorDataset:
    """Sequences, their targets, and whether a sample goes through the module's second branch.

    Sample i goes to rank i mod 2. By turns, all samples of a batch take the branch, those of the
    last of two ranks alone, and none.
    """
    count = BATCH * BATCHES
    x = torch.randn(count, 5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    i = torch.arange(count)
    turn = i // BATCH % 3
    return TensorDataset(x, x.mean((1, 2))[:, None], (turn == 0) | ((turn == 1) & (i % 2 == 1)))


class Joined(Recurrent):
    """Each rank takes its part of the same samples, in order."""

    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__(inner_loop, lr=1.0)
        self.double()

    def samples(self) -> Dataset[Any]:
        return samples()

    def train_dataloader(self) -> DataLoader[Any]:
        ranks = self.trainer.world_size
        mine = range(self.global_rank, BATCH * BATCHES, ranks)
        return DataLoader(self.samples(), BATCH // ranks, sampler=mine)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch[:2], batch_idx)


class Branching(Joined):
    """Has parameters that some batches do not use; which, may differ from rank to rank."""

    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__(inner_loop)
        self.branch = nn.Linear(4, 1, dtype=torch.float64)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y, branches = batch
        hidden = self.rnn(x)[0][:, -1]
        guess = self.head(hidden)
        if branches.any():
            guess = guess + self.branch(hidden) * branches[:, None]
        return nn.functional.mse_loss(guess, y)


def fit(
    make_trainer: Callable[..., L.Trainer], module: Recurrent, **settings: Any
) -> tuple[torch.Tensor, list[RestartRecord]]:
    """Weights and records after two epochs, on this rank or in the only process."""
    settings = {"max_epochs": 2, "precision": "64-true", **settings}
    make_trainer(use_distributed_sampler=False, **settings).fit(module)
    return module.weights(), module.records


def told(record: RestartRecord) -> torch.Tensor:
    """What a window's record tells of gradients, rather than of this rank's losses and time."""
    names = (
        "restart steps skipped early radius gap_first gap_last ball_usage cosine slope_ratio "
        "batches gradient_evaluations"
    )
    return torch.tensor([float(getattr(record, name)) for name in names.split()]).double()


def assert_same_windows(
    records: list[RestartRecord], expected: list[RestartRecord], rtol: float = 1e-9
) -> None:
    mine, other = (torch.stack(list(map(told, which))) for which in (records, expected))
    torch.testing.assert_close(mine, other, rtol=rtol, atol=1e-12, equal_nan=True)
