"""Validation in mid-window, validate, test, predict: they see the anchor and change nothing."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.manual.callback_nets import (
    STATEFUL,
    THREE_STEPS,
    Anchors,
    ByFrankWolfe,
    MemoryLogger,
    Plain,
    windows,
)


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


@pytest.mark.parametrize("call", ["validate", "test", "predict"])
def test_inference_is_the_modules_own_and_leaves_the_fit_alone(call, loader, make_trainer):
    module = ByFrankWolfe()
    make_trainer(limit_train_batches=4).fit(module)
    weights, kept = module.weights(), copy.deepcopy(module._saved_driver_state)
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
    assert kept["window"]["restart"] == 2
    assert repr(module._saved_driver_state) == repr(kept)
