"""Small modules, a quiet Trainer and hand-made restarts."""

from __future__ import annotations

from math import nan

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_fw import FrankWolfeMixin, FWRestartMonitor, InnerLoop, RestartRecord


def loader(batches=12, batch_size=4):
    x = torch.randn(batches * batch_size, 3, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=batch_size)


class Plain(L.LightningModule):
    """Trained by back-propagation; notes its losses."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.losses = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        # Not mse_loss: torch 2.5 has none of bfloat16 on a CPU.
        loss = (self.layer(x) - y).square().mean()
        self.losses.append(loss.item())
        return loss

    def test_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Restarting(FrankWolfeMixin, Plain):
    """Trained by Frank-Wolfe; a window is three batches."""

    def configure_frank_wolfe(self):
        return InnerLoop(steps=3)


def trainer(*callbacks, **settings):
    quiet = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(callbacks=list(callbacks), **(quiet | settings))


def fitted(module, *, batches=12, **settings):
    """The monitor after a fit."""
    monitor = FWRestartMonitor(table=False)
    trainer(monitor, **settings).fit(module, loader(batches))
    return monitor


def record(restart=0, **values):
    """A window of two batches, with a NaN where a rule would be."""
    return RestartRecord(
        **{
            "restart": restart,
            "steps": 2,
            "radius": 0.1,
            "gap_first": 1.0,
            "gap_last": 0.5,
            "ball_usage": 0.8,
            "cosine": 0.25,
            "loss_first": 3.0,
            "loss_last": 2.0,
            "slope_ratio": nan,
            "batches": 2,
            "gradient_evaluations": 2.0,
            "gradient_seconds": 0.6,
            "oracle_seconds": 0.2,
            "outer_seconds": 0.1,
        }
        | values
    )
