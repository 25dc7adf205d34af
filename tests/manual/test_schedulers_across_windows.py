"""With K > 1 a scheduler's step is an outer step: 7 batches of K = 3 are windows of 3, 3, 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from lightning_fw import InnerLoop
from lightning_fw.manual.schedulers import OuterSteps
from lightning_fw.restarts import Progress, RestartRule
from tests.manual.scheduled_fits import (
    assert_rates_are_automatics,
    halved,
    halving,
    rates_after_batches,
    with_scheduler,
)
from tests.manual.twins import Parts, batches, fit, rates_recorder, twins

# Small fits of tests, whatever they train with.
pytestmark = pytest.mark.filterwarnings("ignore:Every inner step of a window was skipped")


def test_a_step_scheduler_steps_once_a_restart():
    rates = rates_after_batches(with_scheduler(interval="step"), InnerLoop(steps=3), max_epochs=2)
    assert rates == halved(0, 0, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5, 6)


def test_frequency_counts_the_outer_steps_of_an_epoch():
    configure = with_scheduler(interval="step", frequency=2)
    rates = rates_after_batches(configure, InnerLoop(steps=3), max_epochs=2)
    assert rates == halved(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2)


def test_an_epoch_scheduler_steps_once_an_epoch():
    configure = with_scheduler(interval="epoch", frequency=2)
    rates = rates_after_batches(configure, InnerLoop(steps=3), batches(3), max_epochs=4)
    assert rates == halved(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2)


@pytest.mark.parametrize("kind", ["same", "split"])
def test_a_batch_that_is_a_window_is_a_step(kind):
    configure = with_scheduler(interval="step")
    loop = InnerLoop(steps=3, batches=kind)
    assert rates_after_batches(configure, loop, max_epochs=1) == halved(1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True)
class AtOnce(RestartRule):
    def __call__(self, progress: Progress) -> bool:
        return True


@pytest.mark.parametrize(("frequency", "expected"), [(1, (4, 8, 12)), (3, (1, 2, 4))])
def test_several_restarts_in_a_batch_are_several_steps(frequency, expected):
    loop = InnerLoop(steps=4, batches="split", restart_when=AtOnce())
    configure = with_scheduler(interval="step", frequency=frequency)
    assert rates_after_batches(configure, loop, batches(3), max_epochs=1) == halved(*expected)


def test_held_batches_are_no_steps():
    loop = InnerLoop(steps=2, accumulate_grad_batches=2)
    rates = rates_after_batches(with_scheduler(interval="step"), loop, max_epochs=1)
    assert rates == halved(0, 0, 0, 1, 1, 1, 2)


def test_a_window_without_a_step_is_no_step():
    loop, loader = InnerLoop(steps=3), batches(9, nan_in=(3, 4, 5))
    for frequency, expected in ((1, (0, 0, 1, 1, 1, 1, 1, 1, 2)), (2, (0,) * 8 + (1,))):
        configure = with_scheduler(interval="step", frequency=frequency)
        rates = rates_after_batches(configure, loop, loader, max_epochs=1)
        assert rates == halved(*expected)


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, (1, 2, 3, 3, 4, 5, 6)), (3, (0, 0, 1, 1, 1, 1, 2))]
)
def test_a_batch_that_training_step_skips_is_no_step(steps, expected):
    class Skips(Parts):
        def training_step(self, batch, batch_idx):
            return None if batch_idx == 3 else super().training_step(batch, batch_idx)

    recorder = rates_recorder()
    module = twins(Skips)[1](with_scheduler(interval="step"), InnerLoop(steps=steps))
    fit(module, callbacks=[recorder], max_epochs=1)
    assert recorder.after_batches() == halved(*expected)


def one_cycle(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=5)


class EndsEarly(Parts):
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
        return -1 if batch_idx == 3 or self.current_epoch == 0 else None


@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("make", [halving, one_cycle])
def test_an_epoch_that_a_hook_ends_is_an_epoch_to_schedulers(make):
    assert_rates_are_automatics(with_scheduler(make, interval="epoch"), parts=EndsEarly)


@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using")
def test_a_cycle_of_too_few_epochs_is_an_error_whatever_makes_windows():
    module = twins()[1](with_scheduler(one_cycle), InnerLoop(steps=2, restart_when=AtOnce()))
    with pytest.raises(ValueError, match="Tried to step 6 times"):
        fit(module, max_epochs=7)


def test_a_batch_that_a_hook_skips_ends_its_window():
    module = twins(EndsEarly)[1](with_scheduler(interval="step"), InnerLoop(steps=2))
    assert fit(module).global_step == 4 == module.lr_schedulers().last_epoch


def test_steps_are_numbered_anew_each_epoch_also_in_a_batch_of_the_same_number():
    steps = OuterSteps()
    for batch in (0, 2):
        steps.add(0, batch)
    assert steps.of_batch(0, 2) == range(2, 3)
    assert not steps.of_batch(1, 2)
    for _ in range(2):
        steps.add(1, 2)
    assert steps.of_batch(1, 2) == range(1, 3)
