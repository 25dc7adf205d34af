"""What ``configure_optimizers`` is told of the length of the fit: outer steps."""

from __future__ import annotations

import warnings

import pytest
import torch

from lightning_fw import InnerLoop, LinearDecay
from lightning_fw.restarts import RestartRule
from tests.mixin.conftest import Recurrent, make_loader


class Estimating(Recurrent):
    def configure_optimizers(self):
        self.estimate = self.trainer.estimated_stepping_batches
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "loop",
    [
        InnerLoop(steps=1),
        InnerLoop(steps=3),
        InnerLoop(steps=2, accumulate_grad_batches=2),
        InnerLoop(steps=3, batches="same"),
        InnerLoop(steps=3, batches="split"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"limit_train_batches": 5}, {"max_steps": 2}], ids=str)
def test_the_estimate_is_what_global_step_comes_to(loop, settings, make_trainer):
    module, trainer = Estimating(loop), make_trainer(**{"max_epochs": 2, **settings})
    trainer.fit(module, make_loader())
    assert module.estimate == trainer.global_step
    assert trainer.accumulate_grad_batches == 1


def test_a_configure_optimizers_that_fails_leaves_the_trainer_as_it_was(make_trainer):
    class Failing(Estimating):
        def configure_optimizers(self):
            raise ConnectionError

    module, trainer = Estimating(InnerLoop(steps=3)), make_trainer()
    with pytest.raises(ConnectionError):
        trainer.fit(Failing(InnerLoop(steps=3)), make_loader())
    trainer.fit(module, make_loader())
    assert module.estimate == trainer.global_step == 3


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda o, n: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=n), "total_steps"),
        (lambda o, n: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=n), "T_max"),
        (lambda o, n: torch.optim.lr_scheduler.LinearLR(o, total_iters=n), "total_iters"),
    ],
)
def test_a_schedule_as_long_as_the_fit_has_batches_is_warned_of(make, name, make_trainer):
    class Scheduled(Recurrent):
        interval, batches = "step", None

        def setup(self, stage):
            self.batches = self.batches or self.trainer.estimated_stepping_batches

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            schedule = {"scheduler": make(optimizer, self.batches), "interval": self.interval}
            return [optimizer], [schedule]

    found = f"`{name}` of .* should be about 6, .* windows of 3 batches, got 14, its batches"
    module = Scheduled(InnerLoop(steps=3))
    with pytest.warns(UserWarning, match=found):
        make_trainer(max_epochs=2).fit(module, make_loader())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        module.batches = 13
        make_trainer(max_epochs=2).fit(module, make_loader())
        module.batches, module.interval = 14, "epoch"
        make_trainer(max_epochs=2).fit(module, make_loader())
        for loop in (InnerLoop(steps=1), InnerLoop(steps=3, batches="split")):
            make_trainer(max_epochs=2).fit(Scheduled(loop), make_loader())
        # Epochs of one batch are as many windows.
        module.batches, module.interval = 2, "step"
        make_trainer(max_epochs=2, limit_train_batches=1).fit(module, make_loader())
    assert not [each for each in told if "its batches" in str(each.message)]


def test_without_a_trainer_there_is_nothing_to_estimate_and_the_optimizer_is_made():
    assert isinstance(Recurrent(InnerLoop()).configure_optimizers(), torch.optim.Optimizer)


def test_a_schedule_of_the_radius_may_be_as_long_as_the_fit(make_trainer):
    class Scheduled(Recurrent):
        def configure_frank_wolfe(self):
            steps = self.trainer.estimated_stepping_batches
            return InnerLoop(steps=3, radius_rule=LinearDecay(total_steps=steps, end=0.5))

    module, trainer = Scheduled(), make_trainer(max_epochs=2)
    trainer.fit(module, make_loader())
    rule = LinearDecay(total_steps=trainer.global_step, end=0.5)
    assert [record.radius for record in module.records] == [0.01 * rule(k) for k in range(6)]


class Always(RestartRule):
    def __call__(self, progress):
        return True


def test_one_cycle_ends_where_a_restart_rule_makes_more_windows(make_trainer):
    class OneCycle(Recurrent):
        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            steps = self.trainer.estimated_stepping_batches
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    module, trainer = OneCycle(InnerLoop(steps=3, restart_when=Always())), make_trainer()
    with pytest.warns(UserWarning, match="OneCycleLR has made its 3 steps, and `restart_when` "):
        trainer.fit(module, make_loader())
    assert trainer.global_step == 7
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == 3
