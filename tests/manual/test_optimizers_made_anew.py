"""Modules that grow in a fit, and make the optimizer of their new layers in a hook."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, LinearDecay
from tests.manual.callback_nets import ONE_STEP, ByFrankWolfe, Plain
from tests.manual.interrupted import Batches, SaveAfter
from tests.mixin.conftest import Recurrent


def by_the_strategy(module):
    module.trainer.strategy.setup_optimizers(module.trainer)


def by_hand(module):
    module.trainer.optimizers = [module.configure_optimizers()]


def growing(base, make_anew):
    class Grows(base):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                torch.manual_seed(0)
                self.head = nn.Sequential(self.head, nn.Linear(1, 1))
                make_anew(self)

    return Grows


@pytest.mark.parametrize("make_anew", [by_the_strategy, by_hand])
def test_a_grown_module_trains_as_in_automatic_optimization(make_anew, make_trainer):
    found = []
    for base, settings in ((Plain, ()), (ByFrankWolfe, (ONE_STEP,))):
        module = growing(base, make_anew)(*settings)
        make_trainer(max_epochs=2).fit(module)
        found.append(module.weights())
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("make_anew", [by_the_strategy, by_hand])
def test_windows_count_on_and_keep_their_momentum(make_anew, loader, make_trainer):
    class Anew(Recurrent):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:
                make_anew(self)

    rule = LinearDecay(total_steps=10)
    loop = InnerLoop(ball=L2Ball(radius=0.05), steps=4, momentum=0.5, radius_rule=rule)
    runs = []
    for cls in (Recurrent, Anew):
        module = cls(loop)
        make_trainer(max_epochs=3).fit(module, loader)
        runs.append((module.weights(), [(each.restart, each.radius) for each in module.records]))
    assert runs[1][1] == runs[0][1]
    assert torch.equal(runs[1][0], runs[0][0])


class Longer(Recurrent):
    """Its windows have a step more in every epoch."""

    def on_train_epoch_start(self):
        self.inner_loop = InnerLoop(steps=2 + self.current_epoch)
        by_the_strategy(self)


def test_other_settings_of_the_inner_loop_count_from_then_on(loader, make_trainer):
    module = Longer()
    make_trainer(max_epochs=2).fit(module, loader)
    assert [record.steps for record in module.records] == [2, 2, 2, 1, 3, 3, 1]


def test_in_a_fit_that_resumed_they_are_not_those_of_the_checkpoint(make_trainer, tmp_path):
    save = SaveAfter(tmp_path, [2])
    make_trainer(callbacks=[save]).fit(Longer(InnerLoop(steps=2)), Batches())
    resumed = Longer(InnerLoop(steps=2))
    make_trainer(max_epochs=2).fit(resumed, Batches(), ckpt_path=save.path(2))
    found = [(record.restart, record.steps) for record in resumed.records]
    assert found == [(1, 2), (2, 2), (3, 1), (0, 3), (1, 3), (2, 1)]
