"""Fits in float64, where a group of batches agrees with their joint batch."""

from __future__ import annotations

from torch.utils.data import DataLoader, TensorDataset

from tests.mixin.conftest import Recurrent, make_loader

SAMPLES = 28


def doubles(batch_size, samples=SAMPLES):
    tensors = make_loader(samples).dataset.tensors
    return DataLoader(TensorDataset(*(t.double() for t in tensors)), batch_size=batch_size)


def fit(loop, loader, make_trainer, kind=Recurrent, **settings):
    """Fit for two epochs in float64."""
    module = kind(loop, lr=0.5).double()
    trainer = make_trainer(**{"precision": "64-true", "max_epochs": 2, **settings})
    trainer.fit(module, loader)
    return module, trainer
