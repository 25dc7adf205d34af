"""A small recurrent module and a Trainer without noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import FrankWolfeMixin, InnerLoop, RestartRecord


class Recurrent(FrankWolfeMixin, L.LightningModule):
    """Predicts the mean of a sequence, and notes what happens to it."""

    def __init__(self, inner_loop: InnerLoop | None = None, lr: float = 0.01) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = nn.RNN(2, 4, batch_first=True)
        self.head = nn.Linear(4, 1)
        self.inner_loop = inner_loop or InnerLoop(steps=3)
        self.lr = lr
        self.records: list[RestartRecord] = []
        self.seen: list[tuple[int, torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(x)[0][:, -1])

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner_loop

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        self.seen.append((len(x), self.weights()))
        # Not mse_loss: torch 2.5 has none in half precision on a CPU.
        return (self(x) - y).square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def on_restart(self, record: RestartRecord) -> None:
        self.records.append(record)

    def weights(self) -> torch.Tensor:
        return nn.utils.parameters_to_vector(self.parameters()).detach().clone()


def loss_of(module: Recurrent, batch: Any) -> torch.Tensor:
    return Recurrent.training_step(module, batch, 0)


def make_loader(samples: int = 28, batch_size: int = 4) -> DataLoader[Any]:
    x = torch.randn(samples, 5, 2, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, x.mean((1, 2))[:, None]), batch_size=batch_size)


@pytest.fixture
def loader() -> DataLoader[Any]:
    """Seven batches of four samples."""
    return make_loader()


@pytest.fixture
def make_trainer(tmp_path) -> Callable[..., L.Trainer]:
    def make(**settings: Any) -> L.Trainer:
        return L.Trainer(
            **{
                "accelerator": "cpu",
                "default_root_dir": tmp_path,
                "max_epochs": 1,
                "logger": False,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                **settings,
            }
        )

    return make
