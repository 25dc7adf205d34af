"""Schedulers that are not torch's, or that hooks and callbacks step, bring and change."""

from __future__ import annotations

from typing import Any

import lightning.pytorch
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.types import LRSchedulerConfig
from torch.optim import lr_scheduler as torch_schedulers

from tests.manual.scheduled_fits import (
    assert_rates_are_automatics,
    halving,
    plateau,
    with_scheduler,
)
from tests.manual.twins import Parts, fit, twins


class Gentle:
    """A scheduler that is not one of torch's."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.calls = optimizer, []

    def update(self, value: Any) -> None:
        self.calls.append(None if value is None else float(value))
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.9 if value is None else 1 - 0.1 * float(value)

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls = state["calls"]


class StepsGentle(Parts):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.update(metric)


@pytest.mark.parametrize(
    "settings",
    [
        {"interval": "step", "frequency": 2},
        {"interval": "epoch"},
        {"interval": "step", "reduce_on_plateau": True, "monitor": "at_batch"},
        {"interval": "epoch", "reduce_on_plateau": True, "monitor": "at_validation"},
        {"interval": "step", "reduce_on_plateau": False, "monitor": "at_batch"},
    ],
    ids=str,
)
def test_a_scheduler_of_ones_own_is_stepped_through_the_hook(settings):
    configure = with_scheduler(Gentle, **settings)
    assert_rates_are_automatics(configure, parts=StepsGentle)


def test_one_that_nobody_steps_is_refused_before_training():
    for twin, told in zip(
        twins(), ("doesn't follow", "must be a scheduler of torch's"), strict=True
    ):
        module = twin(with_scheduler(Gentle))
        before = [p.clone() for p in module.parameters()]
        with pytest.raises(MisconfigurationException, match=f"{told}.*lr_scheduler_step`"):
            fit(module)
        torch.testing.assert_close(list(module.parameters()), before, rtol=0, atol=0)


class StepsByEpoch(Parts):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        scheduler.last_epoch = self.current_epoch + 4
        super().lr_scheduler_step(scheduler, metric)


def test_lr_scheduler_step_may_be_overridden():
    assert_rates_are_automatics(
        with_scheduler(
            lambda o: torch_schedulers.LambdaLR(o, lambda epoch: 1 / (epoch + 1)), interval="step"
        ),
        parts=StepsByEpoch,
    )


class Appends(lightning.pytorch.Callback):
    """Brings a scheduler of its own."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        scheduler = torch_schedulers.ExponentialLR(trainer.optimizers[0], 0.9)
        config = LRSchedulerConfig(scheduler, interval="step", frequency=2)
        trainer.lr_scheduler_configs.append(config)


class Changes(Appends):
    """Later changes its own and the user's, and replaces the user's."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        configs = trainer.lr_scheduler_configs
        if trainer.current_epoch == 1:
            configs[0].frequency, configs[1].interval = 4, "epoch"
        if trainer.current_epoch == 2:
            scheduler = halving(trainer.optimizers[0])
            configs[0] = LRSchedulerConfig(scheduler, interval="step", frequency=3)


@pytest.mark.parametrize(
    ("configure", "callback"),
    [
        (None, Appends),
        (with_scheduler(interval="step"), Appends),
        (with_scheduler(interval="step"), Changes),
        (with_scheduler(plateau, interval="step", monitor="at_batch"), Changes),
    ],
)
def test_schedulers_that_a_callback_brings_or_changes_are_stepped(configure, callback):
    assert_rates_are_automatics(configure, callbacks=lambda: [callback()])
