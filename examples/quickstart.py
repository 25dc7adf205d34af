"""
Quickstart
==========

Train an LSTM on the adding problem by Frank-Wolfe, and read what the restarts tell.

The adding problem asks for the sum of two marked numbers out of a sequence of 50. Predicting 1
always has the mean squared error 1/6; nothing is tuned here, and the network does better.
"""

# sphinx_gallery_thumbnail_path = 'images/race-adding.png'

import lightning as L
import torch
from torch.nn.functional import mse_loss

from lightning_fw import AnchorAveraging, FrankWolfeMixin, FWRestartMonitor, InnerLoop
from lightning_fw.data import AddingProblem


class Adder(FrankWolfeMixin, L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(2, 64, batch_first=True)
        self.head = torch.nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x)[0][:, -1])

    def configure_frank_wolfe(self) -> InnerLoop:
        return InnerLoop.spectral()

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int):
        x, y = batch
        return mse_loss(self(x), y)

    def validation_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_mse", mse_loss(self(x), y))


L.seed_everything(0)
monitor = FWRestartMonitor()
trainer = L.Trainer(
    accelerator="cpu",
    max_epochs=1,
    limit_train_batches=300,  # of 50 sequences: 150 restarts
    callbacks=[monitor, AnchorAveraging()],
    logger=False,
    enable_checkpointing=False,
    enable_model_summary=False,
)
trainer.fit(Adder(), AddingProblem(50))

last = monitor.records[-1]
error = trainer.callback_metrics["val_mse"]
print(f"validation error {error:.4f}, radius {last.radius:.4f}, usage {last.ball_usage:.2f}")
assert trainer.global_step == 150
assert error < 0.05, "an LSTM should be far below 1/6 by now"
