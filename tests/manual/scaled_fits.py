"""Fits at some precision, and a loss scaler that changes no digit."""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch.optim import SGD, Adam, AdamW

from lightning_fw import InnerLoop, L2Ball
from tests.manual.interrupted import Batches, Module, monitor

LOOP = InnerLoop(ball=L2Ball(radius=0.05), steps=3)
FIRST = 2.0**20


class Scaling(MixedPrecision):
    """The loss scaler of 16-mixed with float32 inside.

    A scale that is a power of two then changes no digit, so that a fit must equal one without it
    to the last bit.
    """

    def __init__(self, scale=FIRST, **settings):
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", scale, **settings))

    def autocast_context_manager(self):
        return torch.autocast("cpu", enabled=False)


def fit(make_trainer, loop=LOOP, outer=None, loader=None, kind=Module, **settings):
    """Fit for two epochs of seven batches.

    Returns:
        The module, its trainer and the monitor.
    """
    module, watch = kind(loop, outer), monitor()
    callbacks = [watch, *settings.pop("callbacks", [])]
    trainer = make_trainer(**{"max_epochs": 2, "callbacks": callbacks, **settings})
    trainer.fit(module, Batches() if loader is None else loader)
    return module, trainer, watch


OUTERS = {
    "SGD": partial(SGD, lr=0.05),
    "SGD with momentum": partial(SGD, lr=0.05, momentum=0.9, nesterov=True),
    "fused SGD": partial(SGD, lr=0.05, momentum=0.9, fused=True),
    "Adam": partial(Adam, lr=0.01),
    "fused Adam": partial(Adam, lr=0.01, fused=True),
    "AdamW": partial(AdamW, lr=0.01, weight_decay=0.1),
}
