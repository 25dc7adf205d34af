"""Weights that training_step writes itself: those of a target network or a momentum encoder."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop
from tests.manual.twins import Parts, fit, twins

UPDATES = 21


class WithTarget(Parts):
    """The optimizer holds the target, too, which never has a gradient."""

    is_frozen = False

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.target = copy.deepcopy(self.layer).requires_grad_(not self.is_frozen)
        nn.init.zeros_(self.target.weight)

    @torch.no_grad()
    def update(self):
        self.target.weight.lerp_(torch.ones(1, 2), 0.25)


class InTrainingStep(WithTarget):
    def training_step(self, batch, batch_idx):
        self.update()
        with torch.no_grad():
            aim = self.target(batch[0])
        return (self.layer(batch[0]) - aim).square().mean()


class InABackwardHook(WithTarget):
    def on_after_backward(self):
        self.update()


class Frozen(InTrainingStep):
    is_frozen = True


@pytest.mark.parametrize("trajectory", ["anchored", "cumulative", "fixed"])
@pytest.mark.parametrize("parts", [InTrainingStep, InABackwardHook, Frozen])
def test_every_update_of_a_target_counts_as_without_the_mixin(parts, trajectory):
    plain, by_frank_wolfe = twins(parts)
    usual = plain()
    module = by_frank_wolfe(inner_loop=InnerLoop(steps=3, trajectory=trajectory))
    fit(usual)
    before = module.layer.weight.detach().clone()
    fit(module)
    expected = torch.full((1, 2), 1 - 0.75**UPDATES)
    torch.testing.assert_close(usual.target.weight.detach(), expected)
    assert torch.equal(module.target.weight, usual.target.weight)
    assert not torch.equal(module.layer.weight, before)
