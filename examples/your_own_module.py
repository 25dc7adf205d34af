"""
Your own LightningModule
========================

A module that trains by back-propagation gets the mixin as its *first* base class. Its optimizer and
its scheduler stay: they are the outer ones now, and step once a window of K batches.
"""

import lightning as L
import torch
from torch.nn.functional import mse_loss

from lightning_fw import FrankWolfeMixin, InnerLoop, RMSBall


class Forecaster(L.LightningModule):
    """Predicts the next value of a noisy sine from the last 30."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = torch.nn.GRU(1, 32, batch_first=True)
        self.head = torch.nn.Linear(32, 1)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = mse_loss(self.head(self.gru(x)[0][:, -1]), y)
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.03, momentum=0.5)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimizer, T_max=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class FrankWolfeForecaster(FrankWolfeMixin, Forecaster):
    def configure_frank_wolfe(self) -> InnerLoop:
        return InnerLoop(ball=RMSBall(radius=0.03), steps=3, momentum=0.9)


L.seed_everything(0)
start = torch.rand(3000, 1) * 6.28
waves = torch.sin(start + 0.2 * torch.arange(31)) + 0.05 * torch.randn(3000, 31)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(waves[:, :30, None], waves[:, 30:]), batch_size=50, shuffle=True
)
trainer = L.Trainer(
    accelerator="cpu",
    max_epochs=6,
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
)
trainer.fit(FrankWolfeForecaster(), loader)

print(f"{trainer.global_step} outer steps of {6 * len(loader)} batches")
assert trainer.global_step == 6 * len(loader) // 3
assert trainer.callback_metrics["loss"] < 0.02, "the mean predicts with an error of 0.5"
