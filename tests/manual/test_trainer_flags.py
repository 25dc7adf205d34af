"""Flags of the Trainer, and what becomes of a window when a fit ends or is looked into."""

from __future__ import annotations

import time
from datetime import timedelta

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader, IterableDataset

from lightning_fw import InnerLoop, L2Ball
from lightning_fw.restarts import RestartRule
from tests.manual.callback_nets import (
    ONE_STEP,
    THREE_STEPS,
    Anchors,
    ByFrankWolfe,
    MemoryLogger,
    Plain,
)
from tests.mixin.conftest import make_loader

NOT_BARE = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
STATEFUL = InnerLoop(ball=L2Ball(radius=0.05), steps=2, momentum=0.5, accumulate_grad_batches=2)


class Endless(IterableDataset):
    """Fourteen samples, whose number nobody knows before."""

    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        for _ in range(14):
            yield torch.randn(5, 2, generator=generator), torch.zeros(1)


def windows(module):
    return [record.steps for record in module.records]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"gradient_clip_val": 0.5},
            "`gradient_clip_val` must be None .* got 0.5: atoms are bound",
        ),
        (
            {"accumulate_grad_batches": 4},
            r"`accumulate_grad_batches` must be 1 .* Pass InnerLoop\(accumulate_grad_batches=4\)",
        ),
        (
            {"callbacks": [GradientAccumulationScheduler({0: 2})]},
            r"no GradientAccumulationScheduler .* pass InnerLoop\(accumulate_grad_batches=...\)",
        ),
    ],
)
def test_flags_without_work_are_refused_with_what_to_use_instead(flags, message, make_trainer):
    module = ByFrankWolfe()
    with pytest.raises(ValueError, match=message):
        make_trainer(**flags).fit(module)
    assert module.seen == []


def test_a_scheduler_of_accumulation_that_the_module_brings_is_refused_too(make_trainer):
    accumulation = GradientAccumulationScheduler({0: 2})
    for brought in (accumulation, [Anchors(), accumulation]):

        class Brings(ByFrankWolfe):
            callbacks = brought

            def configure_callbacks(self):
                return self.callbacks

        with pytest.raises(ValueError, match="must hold no GradientAccumulationScheduler"):
            make_trainer().fit(Brings())


@pytest.mark.parametrize("call", ["validate", "test", "predict"])
def test_such_flags_matter_to_fits_alone(call, loader, make_trainer):
    quiet = {} if call == "predict" else {"verbose": False}
    trainer = make_trainer(gradient_clip_val=0.5, accumulate_grad_batches=4)
    getattr(trainer, call)(ByFrankWolfe(), loader, **quiet)


def test_clipping_by_zero_is_no_clipping(make_trainer):
    trainer = make_trainer(gradient_clip_val=0.0)
    trainer.fit(ByFrankWolfe())
    assert trainer.global_step == 3


# What Lightning advises is the point of these flags.
@pytest.mark.filterwarnings("ignore:You requested to overfit but enabled")
@pytest.mark.parametrize(
    "flags",
    [
        {"fast_dev_run": 1},
        {"fast_dev_run": 3},
        {"overfit_batches": 2},
        {"overfit_batches": 0.5, "max_epochs": 2},
        {"limit_train_batches": 4, "max_epochs": 2},
        {"limit_train_batches": 0.6},
        {"limit_train_batches": 1},
        {"val_check_interval": 2, "max_epochs": 2},
        {"val_check_interval": 0.5, "max_epochs": 2},
        {"val_check_interval": 5, "check_val_every_n_epoch": None, "max_epochs": 3},
        {"check_val_every_n_epoch": 2, "max_epochs": 3},
        {"num_sanity_val_steps": 2},
        {"num_sanity_val_steps": 0},
        {"max_steps": 9, "max_epochs": -1},
        {"max_steps": 9, "max_epochs": -1, "val_check_interval": 2},
        {"min_steps": 9, "max_epochs": 1},
        {"detect_anomaly": True},
        {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 2},
        {"barebones": True, "limit_train_batches": 4},
        {"precision": "64-true"},
        {"deterministic": True},
        {"use_distributed_sampler": False},
        {"profiler": "simple"},
    ],
)
def test_with_one_step_a_flag_means_what_it_means_to_automatic_optimization(flags, make_trainer):
    modules = Plain(), ByFrankWolfe(ONE_STEP)
    if "precision" in flags:
        for module in modules:
            module.train_dataloader = module.val_dataloader = double_loader
    if flags.get("fast_dev_run") or flags.get("barebones"):
        flags = {**flags, "max_epochs": 1}
    if flags.get("barebones"):
        for module in modules:
            module.log = lambda *args, **kwargs: None
        flags = dict.fromkeys(NOT_BARE) | flags
    trainers = []
    for module in modules:
        trainer = make_trainer(**flags)
        trainer.fit(module)
        trainers.append(trainer)
    plain, mine = modules
    assert trainers[1].global_step == trainers[0].global_step > 0
    assert trainers[1].current_epoch == trainers[0].current_epoch
    assert len(mine.seen) == len(plain.seen)
    torch.testing.assert_close(mine.weights(), plain.weights(), rtol=1e-4, atol=1e-6)
    assert [step for step, _ in mine.validated] == [step for step, _ in plain.validated]
    for (_, weights), (_, right) in zip(mine.validated, plain.validated, strict=True):
        torch.testing.assert_close(weights, right, rtol=1e-4, atol=1e-6)


def double_loader():
    loader = make_loader()
    loader.dataset.tensors = tuple(t.double() for t in loader.dataset.tensors)
    return loader


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ({"fast_dev_run": 1}, [1]),
        ({"fast_dev_run": 3}, [3]),
        ({"fast_dev_run": 5}, [3, 2]),
        ({"overfit_batches": 2, "max_epochs": 2}, [2, 2]),
        ({"overfit_batches": 0.6, "max_epochs": 2}, [3, 1] * 2),
        ({"limit_train_batches": 5}, [3, 2]),
        ({"limit_train_batches": 0.6}, [3, 1]),
        ({"val_check_interval": 2}, [3, 3, 1]),
        ({"max_steps": 4, "max_epochs": -1}, [3, 3, 1, 3]),
        ({"max_steps": 2, "max_epochs": 1}, [3, 3]),
        ({"reload_dataloaders_every_n_epochs": 1, "max_epochs": 2}, [3, 3, 1] * 2),
    ],
)
def test_an_epoch_ends_with_a_closed_window(flags, steps, make_trainer):
    module = ByFrankWolfe()
    trainer = make_trainer(**flags)
    trainer.fit(module)
    assert windows(module) == steps
    assert trainer.global_step == len(steps)


@pytest.mark.parametrize("inner_loop", [THREE_STEPS, STATEFUL])
@pytest.mark.parametrize("interval", [1, 2, 3])
def test_validation_in_mid_window_sees_the_anchor_and_changes_nothing(
    inner_loop, interval, make_trainer
):
    module, anchors = ByFrankWolfe(inner_loop), Anchors()
    make_trainer(callbacks=[anchors], val_check_interval=interval, max_epochs=2).fit(module)
    assert len(module.validated) == 7 // interval * 2 + 1
    for step, weights in module.validated[1:]:
        expected = anchors.after_restart(step) if step else ByFrankWolfe().weights()
        assert torch.equal(weights, expected)
    unseen = ByFrankWolfe(inner_loop)
    make_trainer(limit_val_batches=0, max_epochs=2).fit(unseen)
    assert torch.equal(module.weights(), unseen.weights())
    assert windows(module) == windows(unseen)


def test_validation_every_so_many_batches_across_epochs(make_trainer):
    module = ByFrankWolfe()
    make_trainer(
        val_check_interval=5, check_val_every_n_epoch=None, max_epochs=3, num_sanity_val_steps=0
    ).fit(module)
    # After batches 5, 10, 15, 20 of windows of 3, 3, 1 a seven.
    assert [step for step, _ in module.validated] == [1, 4, 6, 8]


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
    assert trainer.global_step > 3
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


def test_a_batch_start_of_minus_one_ends_the_epoch_and_the_window_goes_on(make_trainer):
    class Skips(ByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == 4 else None

    module, anchors = Skips(), Anchors()
    trainer = make_trainer(callbacks=[anchors], max_epochs=3)
    trainer.fit(module)
    # Four batches an epoch.
    assert len(module.seen) == 12
    assert windows(module) == [3, 3, 3, 3]
    assert trainer.global_step == 4
    for epoch in (1, 2):
        assert torch.equal(anchors.at_epoch_starts[epoch], anchors.after_restart(epoch))


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


@pytest.mark.parametrize("flags", [{}, {"val_check_interval": 3}, {"limit_train_batches": 5}])
def test_a_data_set_of_unknown_length(flags, make_trainer):
    found = []
    for module in (Plain(), ByFrankWolfe(ONE_STEP), ByFrankWolfe()):
        trainer = make_trainer(max_epochs=2, **flags)
        trainer.fit(module, DataLoader(Endless(), batch_size=2), make_loader(samples=8))
        found.append((trainer.global_step, len(module.seen), len(module.validated)))
    assert found[0] == found[1]
    assert found[2][1:] == found[0][1:]
    assert windows(module) == ([3, 2] * 2 if "limit_train_batches" in flags else [3, 3, 1] * 2)


def test_data_loaders_are_made_anew(make_trainer):
    class Grows(ByFrankWolfe):
        def train_dataloader(self):
            return make_loader(samples=16 + 4 * self.trainer.current_epoch)

    module = Grows()
    make_trainer(reload_dataloaders_every_n_epochs=1, max_epochs=3).fit(module)
    assert windows(module) == [3, 1, 3, 2, 3, 3]


def test_detect_anomaly_names_a_bad_gradient(make_trainer):
    class Bad(ByFrankWolfe):
        def loss(self, batch):
            loss = super().loss(batch)
            return (loss * 0).sqrt() if self.training else loss

    module = Bad()
    with (
        pytest.warns(UserWarning, match="Error detected in .*Backward"),
        pytest.raises(RuntimeError, match="returned nan values"),
    ):
        make_trainer(detect_anomaly=True).fit(module)


def test_several_fits_with_one_trainer_are_as_with_several(make_trainer):
    module, trainer = ByFrankWolfe(STATEFUL), make_trainer()
    trainer.fit(module)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module)
    other = ByFrankWolfe(STATEFUL)
    make_trainer().fit(other)
    make_trainer().fit(other)
    assert torch.equal(module.weights(), other.weights())
    assert [record.restart for record in module.records] == [0, 1, 0, 1]


@pytest.mark.parametrize("first", [Plain, ByFrankWolfe])
def test_one_trainer_serves_modules_with_and_without_the_mixin(first, make_trainer):
    def decay(optimizer):
        return {
            "scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
            "interval": "step",
        }

    second = ByFrankWolfe if first is Plain else Plain
    trainer = make_trainer()
    trainer.fit(first(scheduler=decay))
    trainer.fit_loop.max_epochs = 2
    module, alone = second(scheduler=decay), second(scheduler=decay)
    trainer.fit(module)
    make_trainer().fit(alone)
    assert module.lrs == alone.lrs
    assert len(set(module.lrs)) > 1
    assert torch.equal(module.weights(), alone.weights())


@pytest.mark.parametrize("call", ["validate", "test", "predict"])
def test_inference_is_the_modules_own_and_leaves_the_fit_alone(call, loader, make_trainer):
    module = ByFrankWolfe()
    make_trainer(limit_train_batches=4).fit(module)
    weights, restart = module.weights(), module.frank_wolfe.restart
    plain = Plain()
    plain.load_state_dict(module.state_dict())
    logger, quiet = MemoryLogger(), {} if call == "predict" else {"verbose": False}
    mine = getattr(make_trainer(logger=logger), call)(module, loader, **quiet)
    right = getattr(make_trainer(), call)(plain, loader, **quiet)
    if call == "predict":
        assert torch.equal(torch.cat(mine), torch.cat(right))
    else:
        assert mine == right
        assert mine[0]
    assert torch.equal(module.weights(), weights)
    assert module.frank_wolfe.restart == restart


def test_hooks_of_a_fit_come_as_often_as_batches(make_trainer):
    class Counts(L.Callback):
        starts = ends = 0

        def on_train_batch_start(self, *args):
            self.starts += 1

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.ends += 1
            assert outputs["loss"].ndim == 0

    counts = Counts()
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, batches="same")
    make_trainer(callbacks=[counts]).fit(ByFrankWolfe(loop))
    assert (counts.starts, counts.ends) == (7, 7)
