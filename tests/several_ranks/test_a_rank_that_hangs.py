"""A rank that neither goes on nor ends keeps the others for the timeout of the process group."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta

import pytest
from lightning.pytorch.strategies import DDPStrategy

from tests.ranks import on_ranks
from tests.several_ranks.joined import Joined, fit, loop

TIMEOUT = timedelta(seconds=3)


class Stopping(Joined):
    """Its last rank falls asleep in mid-window."""

    def training_step(self, batch, batch_idx):
        if self.global_rank == 1 and batch_idx == 4:
            os.kill(os.getpid(), signal.SIGSTOP)
        return super().training_step(batch, batch_idx)


def test_the_others_give_up_after_it_and_say_so(make_trainer):
    def on_a_rank():
        strategy = DDPStrategy(timeout=TIMEOUT)
        fit(make_trainer, Stopping(loop(sync="restart")), strategy=strategy, devices=2)

    start = time.monotonic()
    with pytest.raises(AssertionError, match="(?i)timeout|timed out"):
        on_ranks(on_a_rank)
    assert TIMEOUT.seconds < time.monotonic() - start < 30
