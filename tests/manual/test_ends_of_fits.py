"""A fit or an epoch that ends early: at the step that was asked for, with the anchor."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import torch
from lightning.pytorch.callbacks import Timer

from lightning_fw import InnerLoop, L2Ball
from lightning_fw.restarts import RestartRule
from tests.manual.callback_nets import ONE_STEP, Anchors, ByFrankWolfe, Plain, windows


class AlwaysRestart(RestartRule):
    def __call__(self, progress):
        return progress.k >= 1


@pytest.mark.parametrize("batches", ["split", "same", "successive"])
def test_max_steps_is_met_exactly_where_a_batch_has_several_windows(batches, make_trainer):
    loop = InnerLoop(
        ball=L2Ball(radius=0.05), steps=3, batches=batches, restart_when=AlwaysRestart()
    )

    def cycle(optimizer):
        # It raises at a ninth step.
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 8)
        return {"scheduler": scheduler, "interval": "step"}

    module = ByFrankWolfe(loop, scheduler=cycle)
    trainer = make_trainer(max_steps=8, max_epochs=-1)
    trainer.fit(module)
    assert trainer.global_step == len(module.records) == 8


def test_max_time_ends_a_fit_at_the_anchor(make_trainer):
    module, anchors = ByFrankWolfe(), Anchors()
    trainer = make_trainer(callbacks=[anchors], max_time=timedelta(milliseconds=300), max_epochs=-1)
    started = time.monotonic()
    trainer.fit(module)
    assert time.monotonic() - started >= 0.3
    assert trainer.global_step == len(module.records) > 0
    assert torch.equal(module.weights(), anchors.after_batches[-1][1])


@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_should_stop_in_mid_window_leaves_the_anchor_of_the_last_restart(at, make_trainer):
    class Stops(ByFrankWolfe):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.trainer.should_stop = batch_idx == at

    module, trainer = Stops(), make_trainer(max_epochs=5, num_sanity_val_steps=0)
    trainer.fit(module)
    done = (at + 1) // 3
    assert trainer.global_step == done
    straight = ByFrankWolfe()
    if done:
        make_trainer(limit_train_batches=3 * done).fit(straight)
    assert torch.equal(module.weights(), straight.weights())
    assert torch.equal(module.validated[-1][1], straight.weights())


def test_should_stop_before_min_epochs_changes_nothing(make_trainer):
    class Stops(ByFrankWolfe):
        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.trainer.should_stop = True

    module, straight = Stops(), ByFrankWolfe()
    make_trainer(min_epochs=2, max_epochs=2, limit_val_batches=0).fit(module)
    make_trainer(max_epochs=2, limit_val_batches=0).fit(straight)
    assert torch.equal(module.weights(), straight.weights())


def test_a_batch_start_of_minus_one_ends_the_epoch_and_its_window(make_trainer):
    class Skips(ByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 4 else None

        def on_train_epoch_end(self):
            self.ends = [*getattr(self, "ends", []), self.weights()]

    module, anchors = Skips(), Anchors()
    trainer = make_trainer(callbacks=[anchors], max_epochs=3)
    trainer.fit(module)
    # Four batches an epoch.
    assert len(module.seen) == 12
    assert windows(module) == [3, 1, 3, 1, 3, 1]
    assert trainer.global_step == 6
    for epoch in (1, 2):
        assert torch.equal(anchors.at_epoch_starts[epoch], module.ends[epoch - 1])
        # The step of the window that was cut off.
        assert not torch.equal(module.ends[epoch - 1], anchors.after_batches[4 * epoch - 1][1])


def test_a_batch_start_of_minus_one_in_a_group_makes_a_step_of_what_is_held(make_trainer):
    class Skips(ByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 5 else None

    module = Skips(InnerLoop(steps=2, accumulate_grad_batches=2))
    make_trainer(max_epochs=2).fit(module)
    assert [(r.steps, r.batches) for r in module.records] == [(2, 4), (1, 1)] * 2


def test_with_one_step_a_batch_start_of_minus_one_is_automatic_optimizations(make_trainer):
    found = []
    for base, arguments in ((Plain, ()), (ByFrankWolfe, (ONE_STEP,))):

        class Skips(base):
            def on_train_batch_start(self, batch, batch_idx):
                return -1 if batch_idx == 4 else None

        module, trainer = Skips(*arguments), make_trainer(max_epochs=3)
        trainer.fit(module)
        found.append((trainer.global_step, len(module.seen), module.weights()))
    assert found[1][:2] == found[0][:2] == (12, 12)
    torch.testing.assert_close(found[1][2], found[0][2], rtol=1e-4, atol=1e-6)


def test_a_timer_ends_a_fit_in_mid_window_at_the_anchor(make_trainer):
    timer, anchors = Timer(duration=timedelta(hours=1)), Anchors()

    class AnHourLater(ByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 4:
                timer._offset = 3600

    module = AnHourLater()
    trainer = make_trainer(callbacks=[anchors, timer], max_epochs=9)
    trainer.fit(module)
    assert len(module.seen) == 5
    assert trainer.global_step == 1
    assert torch.equal(module.weights(), anchors.after_restart(1))
    assert 3600 < timer.time_elapsed("train") < 3700
    assert timer.time_elapsed("validate") > 0
