"""Hooks of a base that stands behind a module with the mixin are called, as without it."""

from __future__ import annotations

import lightning as L
from torch import nn

from lightning_fw import FrankWolfeMixin, InnerLoop
from tests.mixin.conftest import Recurrent


class Extras(L.LightningModule):
    def on_save_checkpoint(self, checkpoint):
        checkpoint["extra"] = 1

    def on_before_optimizer_step(self, optimizer):
        self.__dict__.setdefault("called", []).append("step")

    def configure_callbacks(self):
        return [L.pytorch.callbacks.Timer()]

    def teardown(self, stage):
        self.__dict__.setdefault("called", []).append("teardown")


class Both(Recurrent, Extras):
    pass


def test_hooks_of_another_base_are_called(loader, make_trainer):
    module, trainer = Both(), make_trainer()
    trainer.fit(module, loader)
    steps = trainer.global_step
    assert module.called == ["step"] * steps + ["teardown"]
    assert any(isinstance(each, L.pytorch.callbacks.Timer) for each in trainer.callbacks)
    assert trainer._checkpoint_connector.dump_checkpoint()["extra"] == 1


class Configured(L.LightningModule):
    """A finished module that says how Frank-Wolfe is to train it, before anybody mixes that in."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.lengths, self.records = [], []

    def training_step(self, batch, batch_idx):
        self.lengths.append(len(batch[0]))
        return self.layer(batch[0]).square().mean()

    def configure_frank_wolfe(self):
        return InnerLoop(steps=2, batches="split")

    def split_batch(self, batch, chunks):
        return [[batch[0][:3]], [batch[0][3:]]]

    def on_restart(self, record):
        self.records.append(record)


def test_the_mixins_own_hooks_are_called_where_a_base_behind_it_defines_them(loader, make_trainer):
    class Mixed(FrankWolfeMixin, Configured):
        pass

    module = Mixed()
    make_trainer().fit(module, loader)
    assert module.lengths == [3, 1] * 7
    assert [record.steps for record in module.records] == [2] * 7


class Bare(FrankWolfeMixin, L.LightningModule):
    """Settings that several modules share, and no training_step."""


class Trains(L.LightningModule):
    def training_step(self, batch, batch_idx):
        return "its own"


def test_a_training_step_of_another_base_is_the_one():
    class Joined(Bare, Trains):
        pass

    assert Joined().training_step(None, 0) == "its own"
