"""ReduceLROnPlateau gets the metric that automatic optimization would give it, or says why not."""

from __future__ import annotations

import lightning as L
import pytest
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_fw import InnerLoop
from tests.manual.scheduled_fits import (
    asks_too_early,
    assert_rates_are_automatics,
    plateau,
    rates_after_batches,
    with_scheduler,
)
from tests.manual.twins import Parts, fit, twins


@asks_too_early
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_validation_in_mid_epoch_informs_a_plateau_scheduler(interval):
    configure = with_scheduler(plateau, interval=interval, monitor="at_validation", strict=False)
    assert_rates_are_automatics(configure, val_check_interval=3)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_missing_metric_is_an_error_when_strict(interval):
    configure = with_scheduler(plateau, interval=interval, monitor="nowhere")
    for twin, message in zip(twins(), ("metric nowhere", "got 'nowhere'"), strict=True):
        with pytest.raises(MisconfigurationException, match=message):
            fit(twin(configure))


def test_the_error_names_what_was_logged():
    with pytest.raises(
        MisconfigurationException,
        match="`monitor` of ReduceLROnPlateau must be a logged metric, got 'nowhere'; "
        "logged so far: 'at_batch', 'at_validation'. Log it before the scheduler's turn, "
        "or set strict to False.",
    ):
        fit(twins()[1](with_scheduler(plateau, monitor="nowhere")))


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_missing_metric_is_a_warning_when_not_strict(interval):
    configure = with_scheduler(plateau, interval=interval, monitor="nowhere", strict=False)
    with pytest.warns(RuntimeWarning, match="got 'nowhere'.*The learning rate stays"):
        rates = rates_after_batches(configure, InnerLoop(steps=1))
    assert rates == [0.1] * 21


def test_a_plateau_scheduler_sees_the_metric_at_each_restart():
    seen = []

    class Notes(Parts):
        def lr_scheduler_step(self, scheduler, metric):
            seen.append(float(metric))

    configure = with_scheduler(plateau, interval="step", monitor="at_batch")
    module = twins(Notes)[1](configure, InnerLoop(steps=3))
    fit(module, max_epochs=1)
    assert seen == [0.0, 0.0, 1.0]  # of the batches 2, 5 and 6; it is 1 at 0, 3 and 6


def test_a_callback_may_change_what_a_scheduler_looks_at():
    class Changes(L.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                trainer.lr_scheduler_configs[0].monitor = "at_validation"

    configure = with_scheduler(plateau, monitor="at_batch")
    assert_rates_are_automatics(configure, callbacks=lambda: [Changes()])
