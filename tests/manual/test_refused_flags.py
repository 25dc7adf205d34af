"""Flags of the Trainer that have no work here are refused, with what to use instead."""

from __future__ import annotations

import pytest
from lightning.pytorch.callbacks import GradientAccumulationScheduler

from tests.manual.callback_nets import Anchors, ByFrankWolfe


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"gradient_clip_val": 0.5},
            "`gradient_clip_val` must be None .* got 0.5: the direction is bound",
        ),
        (
            {"accumulate_grad_batches": 2},
            r"`accumulate_grad_batches` must be 1 .*replace.*accumulate_grad_batches=2\)",
        ),
        (
            {"callbacks": [GradientAccumulationScheduler({0: 2})]},
            r"no GradientAccumulationScheduler .*replace.*accumulate_grad_batches=...\)",
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
    assert getattr(trainer, call)(ByFrankWolfe(), loader, **quiet) is not None


def test_clipping_by_zero_is_no_clipping(make_trainer):
    trainer = make_trainer(gradient_clip_val=0.0)
    trainer.fit(ByFrankWolfe())
    assert trainer.global_step == 3
