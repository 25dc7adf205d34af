"""Between the batches of a group no gradient is lost and no restart rule is asked."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from lightning_fw import InnerLoop, L2Ball
from lightning_fw.restarts import RestartRule
from tests.manual.double_fits import doubles, fit
from tests.manual.interrupted import told
from tests.mixin.conftest import Recurrent


class Meddling(L.Callback):
    """Clears gradients wherever it can, as a callback or a user's hook may."""

    def on_train_batch_end(self, trainer, module, *args):
        trainer.optimizers[0].zero_grad(set_to_none=False)
        module.zero_grad()


class Validated(Recurrent):
    def validation_step(self, batch, batch_idx):
        with torch.enable_grad():
            torch.nn.functional.mse_loss(self(batch[0]), batch[1]).backward()

    def on_validation_end(self):
        self.zero_grad()


def test_what_happens_between_the_batches_of_a_group_loses_no_gradient(make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=2, accumulate_grad_batches=3)
    straight, _ = fit(loop, doubles(2), make_trainer)
    validated = Validated(loop, lr=0.5).double()
    trainer = make_trainer(
        precision="64-true",
        max_epochs=2,
        val_check_interval=2,
        num_sanity_val_steps=0,
        inference_mode=False,
        callbacks=[Meddling()],
    )
    trainer.fit(validated, doubles(2), doubles(2))
    assert torch.equal(validated.weights(), straight.weights())
    assert told(validated.records) == told(straight.records)


class Leaves(L.Callback):
    """Takes gradients of its own between batches, as a probe does, and leaves them there."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        torch.nn.functional.mse_loss(module(batch[0]), batch[1]).backward()


@pytest.mark.parametrize(
    "loop",
    [
        InnerLoop(ball=L2Ball(radius=0.05), steps=1),
        InnerLoop(ball=L2Ball(radius=0.05), steps=3),
        InnerLoop(ball=L2Ball(radius=0.05), steps=2, accumulate_grad_batches=3),
    ],
    ids=str,
)
def test_gradients_that_others_leave_between_batches_are_dropped_as_in_automatic(
    loop, make_trainer
):
    straight, _ = fit(loop, doubles(2), make_trainer)
    probed = Recurrent(loop, lr=0.5).double()
    make_trainer(precision="64-true", max_epochs=2, callbacks=[Leaves()]).fit(probed, doubles(2))
    assert torch.equal(probed.weights(), straight.weights())


class AfterTwoSteps(RestartRule):
    def __init__(self):
        self.asked = []

    def __call__(self, progress):
        self.asked.append(progress.k)
        return progress.k >= 2


def test_a_restart_rule_is_asked_after_whole_groups(make_trainer):
    rule = AfterTwoSteps()
    loop = InnerLoop(steps=4, restart_when=rule, accumulate_grad_batches=2)
    module, _ = fit(loop, doubles(2), make_trainer, max_epochs=1)
    assert [(r.steps, r.batches, r.early) for r in module.records] == [
        (2, 4, True),
        (2, 4, True),
        (2, 4, True),
        (1, 2, False),
    ]
    assert rule.asked == [1, 2, 1, 2, 1, 2, 1]
