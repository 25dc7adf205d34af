"""A Frank-Wolfe module inside a plain one."""

from __future__ import annotations

import lightning as L
import torch
from torch import nn

from tests.mixin.conftest import Recurrent


def test_a_frank_wolfe_module_inside_a_plain_one_is_trained_by_it(loader, make_trainer):
    class Outer(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = Recurrent()

        def training_step(self, batch, batch_idx):
            return self.inner.training_step(batch, batch_idx)

        def configure_optimizers(self):
            return self.inner.configure_optimizers()

    class Plain(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = Recurrent()

        def training_step(self, batch, batch_idx):
            return nn.functional.mse_loss(self.inner(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.inner.lr)

    module, plain, trainer = Outer(), Plain(), make_trainer()
    trainer.fit(module, loader)
    make_trainer().fit(plain, loader)
    assert trainer.global_step == 7
    assert torch.equal(module.inner.weights(), plain.inner.weights())
    assert module.inner.records == []
