"""A hook that calls training_step for a loss alone, as under automatic optimization."""

from __future__ import annotations

import lightning as L
import pytest
import torch

from tests.mixin.conftest import Recurrent


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_batch_end", "on_train_epoch_end"])
@pytest.mark.parametrize("grad", [True, False])
def test_it_trains_nothing(hook, grad, loader, make_trainer):
    class Asks(L.Callback):
        pass

    losses = []

    def ask(self, trainer, module, *args):
        with torch.set_grad_enabled(grad):
            losses.append(module.training_step(next(iter(loader)), 0))

    setattr(Asks, hook, ask)
    asked, plain = Recurrent(), Recurrent()
    trainers = [make_trainer(callbacks=[Asks()], max_epochs=2), make_trainer(max_epochs=2)]
    for trainer, module in zip(trainers, (asked, plain), strict=True):
        trainer.fit(module, loader)
    assert losses
    assert trainers[0].global_step == trainers[1].global_step
    assert torch.equal(asked.weights(), plain.weights())
