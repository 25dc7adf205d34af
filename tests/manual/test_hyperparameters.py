"""Hyperparameters and weights come back from a checkpoint of any moment."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import (
    ConstantStep,
    CosineDecay,
    FrankWolfeMixin,
    GapFraction,
    Harmonic,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinearDecay,
    LinfBall,
    LpBall,
    NoiseFloor,
    NuclearBall,
    OpenLoop,
    PowerDecay,
    ProductBall,
    RMSBall,
    RowBall,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)


class Saved(FrankWolfeMixin, L.LightningModule):
    def __init__(self, width=3, settings=None, **extra):
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, width)

    def configure_frank_wolfe(self):
        return InnerLoop(steps=3)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SavedDict(Saved):
    def __init__(self, width=3, settings=None, **extra):
        L.LightningModule.__init__(self)
        self.save_hyperparameters({"width": width, "settings": settings, **extra})
        self.layer = nn.Linear(2, width)


class SavedWithPositional(FrankWolfeMixin, L.LightningModule):
    """Takes no keyword but its own, as a mixin's ``__init__`` must not hide."""

    def __init__(self, width):
        super().__init__()
        self.save_hyperparameters({"width": width})
        self.layer = nn.Linear(2, width)

    training_step = Saved.training_step


SETTINGS = [
    *(L1Ball(), L2Ball(), LinfBall(), LpBall(p=3.0), RMSBall(), RowBall(), NuclearBall()),
    *(ProductBall({"*": SpectralBall()}), InnerLoop.spectral(), InnerLoop.authors(lr=0.1)),
    *(Harmonic(), OpenLoop(), ConstantStep(0.5), ShortStep(1.0), GapFraction(0.5), NoiseFloor()),
    *(CosineDecay(total_steps=9), LinearDecay(total_steps=9), PowerDecay(), SlopeRatio()),
]


@pytest.mark.parametrize(
    ("cls", "hyperparameters"),
    [
        (Saved, {"width": 5, "settings": {"a": [1, 2]}, "more": 1.5}),
        (SavedDict, {"width": 5, "settings": {"a": [1, 2]}, "more": 1.5}),
        (SavedWithPositional, {"width": 5}),
        (Saved, {"width": 5, "settings": SETTINGS}),
    ],
)
@pytest.mark.parametrize("when", ["before", "mid-window", "after"])
def test_hyperparameters_and_weights_load_from_a_checkpoint(
    cls, hyperparameters, when, loader, make_trainer, tmp_path
):
    path = tmp_path / "saved.ckpt"
    expected = []

    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                trainer.save_checkpoint(path)
                expected.append(module.layer.weight.detach().clone())

    module = cls(**hyperparameters)
    trainer = make_trainer(callbacks=[Save()] if when == "mid-window" else [])
    if when == "before":
        trainer.strategy.connect(module)
    else:
        trainer.fit(module, loader)
    if when != "mid-window":
        trainer.save_checkpoint(path)
        expected.append(module.layer.weight.detach().clone())
    loaded = cls.load_from_checkpoint(path)
    assert dict(loaded.hparams) == hyperparameters
    assert torch.equal(loaded.layer.weight, expected[0])
    make_trainer().fit(loaded, loader)
    assert not torch.equal(loaded.layer.weight, expected[0])
