"""StochasticWeightAveraging averages anchors, and renews batch norm's statistics at the average."""

from __future__ import annotations

import warnings

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging

from lightning_fw import InnerLoop
from tests.manual.callback_nets import ONE_STEP, Anchors, ByFrankWolfe, Plain, decay
from tests.mixin.conftest import Recurrent, make_loader

SWA = {"swa_lrs": 0.01, "swa_epoch_start": 2, "annealing_epochs": 2}


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("interval", ["epoch", None])
def test_with_one_step_weight_averaging_is_automatic_optimizations(
    interval, batch_norm, strategy, make_trainer
):
    scheduler = None if interval is None else lambda optimizer: decay(optimizer, interval)
    settings = {"batch_norm": batch_norm, "lr": 0.02, "scheduler": scheduler}
    modules = Plain(**settings), ByFrankWolfe(ONE_STEP, **settings)
    trainers = []
    for module in modules:
        averaging = StochasticWeightAveraging(**SWA, annealing_strategy=strategy)
        trainers.append(make_trainer(callbacks=[averaging], max_epochs=5))
        trainers[-1].fit(module)
    plain, mine = modules
    assert mine.lrs == pytest.approx(plain.lrs)
    assert mine.lrs[-1] == pytest.approx(0.01)
    # Automatic optimization counts a step without gradients at the end of the batch-norm epoch.
    assert trainers[0].global_step == 35 + batch_norm
    assert trainers[1].global_step == 35
    assert len(mine.seen) == len(plain.seen) == 35 + 7 * batch_norm
    torch.testing.assert_close(mine.weights(), plain.weights(), rtol=1e-3, atol=1e-5)
    for buffer, right in zip(mine.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(buffer, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("every_n_train_steps", [1, None])
def test_weight_averaging_averages_the_anchors_at_epoch_starts(
    every_n_train_steps, batch_norm, make_trainer, tmp_path
):
    module, anchors = ByFrankWolfe(batch_norm=batch_norm), Anchors()
    saving = ModelCheckpoint(tmp_path, every_n_train_steps=every_n_train_steps)
    callbacks = [anchors, saving, StochasticWeightAveraging(**SWA)]
    trainer = make_trainer(callbacks=callbacks, max_epochs=5, enable_checkpointing=True)
    trainer.fit(module)
    # Epochs 1 to 4, counted from 0; the batch-norm epoch comes after these.
    average = torch.stack(anchors.at_epoch_starts[1:5]).mean(0)
    torch.testing.assert_close(module.weights(), average)
    assert trainer.global_step == len(module.records) == 15
    assert module.lrs[-1] == pytest.approx(0.01)
    if batch_norm:
        assert len(module.seen) == 42
        assert all(torch.equal(weights, module.weights()) for weights in module.seen[-7:])


def test_the_batch_norm_epoch_renews_statistics_at_the_average(make_trainer):
    module = ByFrankWolfe(batch_norm=True)
    make_trainer(callbacks=[StochasticWeightAveraging(**SWA)], max_epochs=5).fit(module)
    with torch.no_grad():
        means = [module.rnn(x)[0][:, -1].mean(0) for x, _ in make_loader()]
    torch.testing.assert_close(module.norm.running_mean, torch.stack(means).mean(0))


@pytest.mark.parametrize("rates", [0.01, [0.01]])
def test_a_rate_that_is_none_for_displacements_is_warned_of(rates, loader, make_trainer):
    averaging = StochasticWeightAveraging(swa_lrs=rates, swa_epoch_start=1, annealing_epochs=1)
    module = Recurrent(InnerLoop.spectral(), lr=1.0)
    with pytest.warns(
        UserWarning, match="`swa_lrs` of StochasticWeightAveraging .* got 0.01. Pass"
    ):
        make_trainer(callbacks=[averaging], max_epochs=2).fit(module, loader)


@pytest.mark.parametrize(
    ("loop", "rate"), [(InnerLoop.spectral(), 1.0), (InnerLoop(steps=3), 0.01)]
)
def test_the_rate_of_the_outer_optimizer_is_not(loop, rate, loader, make_trainer):
    averaging = StochasticWeightAveraging(swa_lrs=rate, swa_epoch_start=1, annealing_epochs=1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_trainer(callbacks=[averaging], max_epochs=2).fit(Recurrent(loop, lr=rate), loader)
    assert not [one for one in told if "`swa_lrs`" in str(one.message)]
