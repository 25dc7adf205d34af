"""Flags of the Trainer mean what they mean to automatic optimization."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lightning.pytorch.profilers import SimpleProfiler

from lightning_fw import InnerLoop
from tests.manual.callback_nets import ONE_STEP, ByFrankWolfe, Plain, windows
from tests.mixin.conftest import make_loader

NOT_BARE = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")


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


@pytest.mark.parametrize(
    ("batches", "loop", "told"),
    [
        (2, InnerLoop(steps=3), "windows of 3 batches, and an epoch has 2: .* Pass fewer steps"),
        (1, InnerLoop(steps=3), "windows of 3 batches, and an epoch has 1: .* Pass fewer steps"),
        (
            1,
            InnerLoop(steps=2, accumulate_grad_batches=2),
            "windows of 4 batches, and an epoch has 1: .* with fewer inner steps. Pass a smaller "
            "`accumulate_grad_batches`",
        ),
        (
            1,
            InnerLoop.spectral(),
            "windows of 2 batches, and an epoch has 1: .* Pass batches=.split",
        ),
        (
            2,
            replace(InnerLoop.spectral(), steps=4),
            "windows of 4 batches, and an epoch has 2: .* with fewer inner steps. Pass fewer steps",
        ),
        (
            1,
            replace(InnerLoop.spectral(), accumulate_grad_batches=2),
            "windows of 4 batches, and an epoch has 1: .* Pass a smaller `accumulate_grad_batches`",
        ),
    ],
    ids=["paper", "one batch", "accumulated", "spectral", "spectral, two", "spectral, accumulated"],
)
def test_epochs_shorter_than_a_window_are_told(batches, loop, told, make_trainer):
    module = ByFrankWolfe(loop, lr=1.0)
    with pytest.warns(UserWarning, match=f"`steps` makes {told}"):
        make_trainer(overfit_batches=batches, max_epochs=2).fit(module)
    assert windows(module) == [batches, batches]


@pytest.mark.parametrize(
    ("batches", "setting"),
    [(1, {"batches": "split"}), (3, {"accumulate_grad_batches": 2})],
    ids=["split", "accumulated"],
)
def test_a_short_epoch_whose_windows_have_all_their_steps_is_not(batches, setting, make_trainer):
    module = ByFrankWolfe(replace(InnerLoop.spectral(), **setting), lr=1.0)
    make_trainer(overfit_batches=batches, max_epochs=2).fit(module)
    assert windows(module) == [2, 2]


def test_lightnings_profiler_tells_inner_steps_and_restarts(make_trainer):
    profiler = SimpleProfiler()
    module = ByFrankWolfe()
    make_trainer(profiler=profiler).fit(module)
    calls = {
        name: len(profiler.recorded_durations[f"[FrankWolfeMixin]{name}"])
        for name in ("inner_step", "restart")
    }
    assert calls == {"inner_step": 7, "restart": 3}


def test_with_one_step_lightnings_profiler_tells_what_it_tells_of_automatic_optimization(
    make_trainer,
):
    told = []
    for module in (Plain(), ByFrankWolfe(ONE_STEP)):
        profiler = SimpleProfiler()
        make_trainer(profiler=profiler).fit(module)
        told.append(
            {
                action.replace(type(module).__name__, "Module"): len(durations)
                for action, durations in profiler.recorded_durations.items()
                if not action.startswith("[FrankWolfeMixin]")
            }
        )
    plain, mine = told
    assert mine == plain
    assert mine["[Strategy]SingleDeviceStrategy.backward"] == 7


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
