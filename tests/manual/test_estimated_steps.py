"""What ``configure_optimizers`` is told of the length of the fit: outer steps."""

from __future__ import annotations

import pytest
import torch

from lightning_fw import InnerLoop
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
