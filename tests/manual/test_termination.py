"""SIGTERM on several ranks: all end, and windows apart are asked at restarts alone."""

from __future__ import annotations

import os
import signal
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lightning_fw import InnerLoop
from tests.manual.interrupted import Module
from tests.mixin.conftest import make_loader
from tests.ranks import on_ranks


class Told(Module):
    """Its ranks are told to end in the second batch of seven."""

    evaluations = 0

    def training_step(self, batch, batch_idx):
        self.evaluations += 1
        if batch_idx == 1 and self.trainer.current_epoch == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().training_step(batch, batch_idx)


def make_trainer() -> L.Trainer:
    warnings.simplefilter("ignore")
    return L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def batches_until_the_end(sync: str) -> int:
    module = Told(InnerLoop(steps=3, sync=sync))
    with pytest.raises(SIGTERMException):
        make_trainer().fit(module, make_loader(56, 4))
    return module.evaluations


@pytest.mark.parametrize("sync", ["step", "restart"])
def test_all_ranks_end_after_the_batch(sync):
    assert on_ranks(batches_until_the_end, sync) == [2, 2]


def questions(sync: str) -> int:
    return _questions(make_trainer(), sync)


def _questions(trainer: L.Trainer, sync: str) -> int:
    broadcast, asked = torch.distributed.broadcast, []

    def counted(*arguments, **settings):
        asked.append(arguments)
        return broadcast(*arguments, **settings)

    torch.distributed.broadcast = counted
    trainer.fit(Module(InnerLoop(steps=3, sync=sync)), make_loader(56, 4))
    return len(asked)


@pytest.mark.parametrize(
    ("sync", "expected"), [("step", 7), ("restart", 3)], ids=["every batch", "at windows"]
)
def test_lightning_asks_rank_zero(sync, expected):
    assert on_ranks(questions, sync) == [expected, expected]


def question_after_a_fit() -> bool:
    trainer = make_trainer()
    trainer.fit(Module(InnerLoop(steps=3, sync="restart")), make_loader(56, 4))
    return "_broadcast_sigterm_tensor" in vars(trainer.fit_loop.epoch_loop)


def test_lightning_gets_its_own_question_back():
    assert on_ranks(question_after_a_fit) == [False, False]


class Failing(Module):
    def training_step(self, batch, batch_idx):
        raise ConnectionError("lost connection")


def questions_after_a_fit_that_failed() -> int:
    trainer = make_trainer()
    with pytest.raises(ConnectionError):
        trainer.fit(Failing(InnerLoop(steps=3, sync="restart")), make_loader(56, 4))
    return _questions(trainer, "step")


def test_it_asks_every_batch_again_after_a_fit_apart_that_failed():
    assert on_ranks(questions_after_a_fit_that_failed) == [7, 7]
