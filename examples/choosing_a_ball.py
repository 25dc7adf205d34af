"""
Choosing a ball
===============

The ball decides more than anything else. Here each gets as many gradient evaluations on the digits,
with a radius that sets itself (:class:`~lightning_fw.SlopeRatio`), so that none is tuned.
"""

from dataclasses import replace

import lightning as L
import matplotlib.pyplot as plt
import torch
from torch.nn.functional import cross_entropy

from lightning_fw import AnchorAveraging, FrankWolfeMixin, InnerLoop, L2Ball, RMSBall
from lightning_fw.data import SequentialDigits


class Reader(FrankWolfeMixin, L.LightningModule):
    def __init__(self, inner_loop: InnerLoop) -> None:
        super().__init__()
        self.inner_loop = inner_loop
        self.lstm = torch.nn.LSTM(8, 128, batch_first=True)
        self.head = torch.nn.Linear(128, 10)

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner_loop

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int):
        x, y = batch
        return cross_entropy(self.head(self.lstm(x)[0][:, -1]), y)

    def test_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("accuracy", (self.head(self.lstm(x)[0][:, -1]).argmax(1) == y).float().mean())


def accuracy(inner_loop: InnerLoop) -> float:
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[AnchorAveraging()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    model, data = Reader(inner_loop), SequentialDigits(batch_size=32)
    trainer.fit(model, data)
    return trainer.test(model, data, verbose=False)[0]["accuracy"]


spectral = InnerLoop.spectral()
rule = replace(spectral.radius_rule, minimum=1e-5, maximum=10.0)
inner_loops = {
    "spectral, per gate": spectral,
    "RMS": replace(spectral, ball=RMSBall(radius=0.01), radius_rule=rule),
    "l2": replace(spectral, ball=L2Ball(radius=0.01), radius_rule=rule),
}
found = {name: accuracy(inner_loop) for name, inner_loop in inner_loops.items()}
for name, value in found.items():
    print(f"{name:20} {value:.3f}")

# %%
figure, axes = plt.subplots(figsize=(5, 2.2), layout="constrained")
axes.barh(list(found)[::-1], list(found.values())[::-1])
axes.set(xlim=(0, 1), xlabel="test accuracy after two epochs")
assert max(found, key=found.get) == "spectral, per gate"
