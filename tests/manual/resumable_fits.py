"""Settings and fits to interrupt, and when two fits are the same to the last bit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.optim import SGD, Adam

from lightning_fw import InnerLoop, L2Ball, SlopeRatio
from lightning_fw.radius_rules import CosineDecay
from tests.manual.interrupted import Batches, Module, counts, monitor, told

ADAM = partial(Adam, lr=0.01)


def sgd_and_scheduler(parameters):
    optimizer = SGD(parameters, lr=1.0, momentum=0.5, nesterov=True)
    # Every second outer step of an epoch: these must count on.
    scheduler = {
        "scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        "interval": "step",
        "frequency": 2,
    }
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


CASES = {
    "paper": (InnerLoop(steps=3), ADAM),
    "spectral": (replace(InnerLoop.spectral(), steps=3), sgd_and_scheduler),
    "cumulative": (
        InnerLoop(ball=L2Ball(radius=0.05), steps=3, trajectory="cumulative", momentum=0.5),
        ADAM,
    ),
    "scheduled radius": (
        InnerLoop(ball=L2Ball(radius=0.1), steps=2, radius_rule=CosineDecay(total_steps=9)),
        sgd_and_scheduler,
    ),
    "accumulation": (
        InnerLoop(
            steps=2,
            momentum=0.9,
            radius_rule=SlopeRatio(),
            direction="displacement",
            accumulate_grad_batches=2,
        ),
        sgd_and_scheduler,
    ),
    "split": (
        InnerLoop(steps=2, batches="split", momentum=0.9, radius_rule=SlopeRatio()),
        ADAM,
    ),
    "same": (InnerLoop(steps=2, batches="same", momentum=0.9), sgd_and_scheduler),
}


def fit(make_trainer, case, *callbacks, ckpt_path=None, loader=None, **settings):
    """Fit a fresh module for two epochs of seven batches.

    Returns:
        The module, its trainer and the monitor.
    """
    watch, module = monitor(), Module(*CASES[case])
    trainer = make_trainer(**{"max_epochs": 2, "callbacks": [watch, *callbacks], **settings})
    trainer.fit(module, loader or Batches(), ckpt_path=ckpt_path)
    return module, trainer, watch


def assert_same_fit(resumed, straight):
    (mine, my_trainer, my_watch), (other, other_trainer, other_watch) = resumed, straight
    assert torch.equal(mine.weights(), other.weights())
    assert told(my_watch.records) == told(other_watch.records)
    assert counts(my_watch.summary()) == counts(other_watch.summary())
    assert my_trainer.global_step == other_trainer.global_step
    states = my_trainer.optimizers[0].state_dict(), other_trainer.optimizers[0].state_dict()
    assert repr(states[0]) == repr(states[1])


def last_and_only(folder):
    return ModelCheckpoint(folder, every_n_train_steps=1, save_last=True, save_top_k=0)
