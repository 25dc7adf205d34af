"""BackboneFinetuning, and parameters that join a fit."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from torch import nn

from lightning_fw import FrankWolfeMixin, InnerLoop, L2Ball, ProductBall
from lightning_fw.manual.outer_optimizer import outer_of
from tests.manual.callback_nets import ONE_STEP
from tests.mixin.conftest import make_loader


class Tuned(L.LightningModule):
    """A head beside a backbone whose gradients do not meet."""

    def __init__(self, *, with_backbone=True):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(2, 1)
        self.backbone = nn.Linear(2, 1)
        self.at_batches = []
        self.with_backbone = with_backbone

    def training_step(self, batch, batch_idx):
        self.at_batches.append((self.head.weight.clone(), self.backbone.weight.clone()))
        x, y = batch
        x = x.mean(1)
        loss = (self.head(x) - y).square().mean()
        return loss + (self.backbone(x) - y).square().mean() if self.with_backbone else loss

    def train_dataloader(self):
        return make_loader()

    def configure_optimizers(self):
        return torch.optim.SGD(
            [p for p in self.parameters() if p.requires_grad], lr=0.05, momentum=0.9
        )


class TunedByFrankWolfe(FrankWolfeMixin, Tuned):
    inner_loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, momentum=0.9)

    def configure_frank_wolfe(self):
        return self.inner_loop


class TunedPlain(Tuned):
    def on_before_optimizer_step(self, optimizer):
        for p in self.parameters():
            if p.grad is not None:
                p.grad /= p.grad.norm()


# What it says to a user who freezes: that the optimizer has all it needs already.
FINETUNING = {"unfreeze_backbone_at_epoch": 1, "lambda_func": lambda epoch: 1.5}


def test_a_backbone_that_is_unfrozen_moves_and_the_head_goes_on_undisturbed(make_trainer):
    module, alone = TunedByFrankWolfe(), TunedByFrankWolfe(with_backbone=False)
    before = module.backbone.weight.detach().clone()
    trainer = make_trainer(callbacks=[BackboneFinetuning(**FINETUNING)], max_epochs=3)
    trainer.fit(module)
    alone.backbone.requires_grad_(False)
    make_trainer(max_epochs=3).fit(alone)
    assert len(trainer.optimizers[0].param_groups) == 2
    at_first_batches = [module.at_batches[7 * epoch][1] for epoch in range(3)]
    assert torch.equal(at_first_batches[0], before)
    assert torch.equal(at_first_batches[1], before)
    assert not torch.equal(at_first_batches[2], before)
    # Momentum of the inner loop and of the optimizer: bit for bit as if nobody had joined.
    assert torch.equal(module.head.weight, alone.head.weight)


def test_with_one_step_finetuning_is_automatic_optimizations(make_trainer):
    plain, mine = TunedPlain(), TunedByFrankWolfe()
    mine.inner_loop = ONE_STEP
    rates = []
    for module in (plain, mine):
        trainer = make_trainer(callbacks=[BackboneFinetuning(**FINETUNING)], max_epochs=3)
        trainer.fit(module)
        rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])
    assert rates[0] == rates[1]
    torch.testing.assert_close(mine.head.weight, plain.head.weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mine.backbone.weight, plain.backbone.weight, rtol=1e-4, atol=1e-6)


def test_the_inner_loops_own_optimizer_leaves_the_backbone_to_the_callback(make_trainer):
    class Untold(TunedByFrankWolfe):
        inner_loop = InnerLoop(ball=L2Ball(radius=0.05), steps=3, direction="displacement")

        def configure_optimizers(self):
            return outer_of(self)

    callbacks = [BackboneFinetuning(1, backbone_initial_ratio_lr=0.5, rounding=6)]
    trainer = make_trainer(callbacks=callbacks, max_epochs=2)
    trainer.fit(Untold())
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [1.0, 0.5]
    # Without such a callback all of them are there, to be thawed by hand.
    module = Untold()
    module.backbone.requires_grad_(False)
    trainer = make_trainer()
    trainer.fit(module)
    (group,) = trainer.optimizers[0].param_groups
    assert len(group["params"]) == 4


@pytest.mark.parametrize("hook", ["training_step", "on_train_batch_start"])
def test_parts_that_take_turns_are_automatic_optimizations(hook, make_trainer):
    def take_turns(self, batch, batch_idx):
        self.head.requires_grad_(batch_idx % 2 == 0)
        self.backbone.requires_grad_(batch_idx % 2 == 1)
        return getattr(super(type(self), self), hook)(batch, batch_idx)

    fitted = []
    for base in (TunedPlain, TunedByFrankWolfe):
        module = type("TakesTurns", (base,), {hook: take_turns})()
        module.inner_loop = ONE_STEP
        make_trainer().fit(module)
        fitted.append(torch.nn.utils.parameters_to_vector(module.parameters()))
    torch.testing.assert_close(*fitted, rtol=1e-4, atol=1e-6)


def test_a_part_frozen_again_once_it_has_its_gradient_is_automatic_optimizations(make_trainer):
    class Thaws:
        def on_train_start(self):
            self.backbone.requires_grad_(False)

        def training_step(self, batch, batch_idx):
            self.backbone.requires_grad_(batch_idx % 2 == 1)
            return super().training_step(batch, batch_idx)

        def on_after_backward(self):
            self.backbone.requires_grad_(False)

    fitted = []
    for base in (TunedPlain, TunedByFrankWolfe):
        module = type("ThawsInAStep", (Thaws, base), {})()
        module.inner_loop = ONE_STEP
        before = module.backbone.weight.detach().clone()
        make_trainer().fit(module)
        assert not torch.equal(module.backbone.weight, before)
        fitted.append(torch.nn.utils.parameters_to_vector(module.parameters()))
    torch.testing.assert_close(*fitted, rtol=1e-4, atol=1e-6)


class PartsThatTakeTurns(TunedByFrankWolfe):
    def turn(self, batch_idx):
        return (self.head, self.backbone)[batch_idx % 2]

    def training_step(self, batch, batch_idx):
        x, y = batch
        return (self.turn(batch_idx)(x.mean(1)) - y).square().mean()

    def configure_optimizers(self):
        return self.inner_loop.outer(self.parameters())


@pytest.mark.parametrize("hook", ["training_step", "on_train_batch_start"])
@pytest.mark.parametrize(
    "loop",
    [
        InnerLoop.spectral(),
        InnerLoop(steps=2, trajectory="cumulative", momentum=0.5),
        InnerLoop(steps=1, accumulate_grad_batches=3),
    ],
    ids=["spectral", "cumulative", "accumulate"],
)
def test_windows_over_the_turns_of_parts_are_those_of_all_parts(hook, loop, make_trainer):
    class Freezing(PartsThatTakeTurns):
        inner_loop = loop

    def freeze(self, batch, batch_idx):
        self.requires_grad_(False)
        self.turn(batch_idx).requires_grad_(True)
        return getattr(super(Freezing, self), hook)(batch, batch_idx)

    class Whole(PartsThatTakeTurns):
        inner_loop = loop

    setattr(Freezing, hook, freeze)
    records, weights = [], []
    for kind in (Freezing, Whole):
        module = kind()
        module.on_restart = records.append
        make_trainer(max_epochs=2).fit(module)
        weights.append(torch.nn.utils.parameters_to_vector(module.parameters()))
    assert torch.equal(*weights)
    half = len(records) // 2
    assert [r.ball_usage for r in records[:half]] == [r.ball_usage for r in records[half:]]
    assert [r.loss_first for r in records[:half]] == [r.loss_first for r in records[half:]]


def test_a_pattern_of_a_product_ball_waits_for_parameters_that_are_frozen(make_trainer):
    module = TunedByFrankWolfe()
    module.inner_loop = InnerLoop(
        ball=ProductBall({"backbone*": L2Ball(radius=0.1), "head*": L2Ball(radius=0.05)}), steps=3
    )
    before = module.backbone.weight.detach().clone()
    make_trainer(callbacks=[BackboneFinetuning(**FINETUNING)], max_epochs=3).fit(module)
    assert not torch.equal(module.backbone.weight, before)
    module.inner_loop = InnerLoop(ball=ProductBall({"bone*": L2Ball(), "*": L2Ball()}))
    with pytest.raises(ValueError, match=r"the pattern 'bone\*', which gets no parameter of head"):
        make_trainer().fit(module)


def test_one_pattern_of_a_product_ball_waits_longer_than_another(make_trainer):
    class OneByOne(TunedByFrankWolfe):
        def on_train_epoch_start(self):
            self.head.bias.requires_grad_(self.current_epoch > 0)
            self.backbone.requires_grad_(self.current_epoch > 1)

    module = OneByOne()
    balls = {"backbone*": L2Ball(), "*.bias": L2Ball(), "*": L2Ball()}
    module.inner_loop = InnerLoop(ball=ProductBall(balls), steps=3)
    before = torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    make_trainer(max_epochs=3).fit(module)
    after = torch.nn.utils.parameters_to_vector(module.parameters())
    assert (after != before).all()


@pytest.mark.parametrize("as_group", [True, False])
def test_parameters_that_join_in_mid_window_move_with_it(as_group, make_trainer):
    class Joins(TunedByFrankWolfe):
        def on_train_batch_start(self, batch, batch_idx):
            if batch_idx == 1:
                self.backbone.requires_grad_(True)
                if as_group:
                    optimizer = self.trainer.optimizers[0]
                    optimizer.add_param_group({"params": list(self.backbone.parameters())})

        def configure_optimizers(self):
            parameters = self.head.parameters() if as_group else self.parameters()
            return torch.optim.SGD(parameters, lr=0.05)

    module = Joins()
    module.backbone.requires_grad_(False)
    before = module.backbone.weight.detach().clone()
    make_trainer().fit(module)
    assert torch.equal(module.at_batches[1][1], before)
    moved = (module.at_batches[3][1] - before).norm()
    assert 0 < moved <= 0.05 * 1.0001
