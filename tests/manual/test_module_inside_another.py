"""A Frank-Wolfe module inside a plain one."""

from __future__ import annotations

import warnings

import lightning as L
import pytest
import torch
from lightning.fabric import Fabric
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
    with pytest.warns(UserWarning, match="`training_step` of Recurrent was called by Outer, which"):
        trainer.fit(module, loader)
    make_trainer().fit(plain, loader)
    assert trainer.global_step == 7
    assert torch.equal(module.inner.weights(), plain.inner.weights())
    assert module.inner.records == []


def test_inside_another_frank_wolfe_module_that_one_trains_and_nothing_warns(loader, make_trainer):
    class Outer(Recurrent):
        def __init__(self):
            super().__init__()
            self.inner = Recurrent()

        def training_step(self, batch, batch_idx):
            return self.inner.training_step(batch, batch_idx)

    module = Outer()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="`training_step`")
        make_trainer().fit(module, loader)
    assert len(module.records) == 3
    assert module.inner.records == []


def test_a_module_whose_own_fit_failed_is_trained_by_the_one_around_it(loader, make_trainer):
    """Lightning 2.6.6 leaves the hook's name behind where it raises."""

    class Failing(Recurrent):
        fails = True

        def training_step(self, batch, batch_idx):
            if self.fails:
                raise ZeroDivisionError
            return super().training_step(batch, batch_idx)

    class Outer(Recurrent):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def training_step(self, batch, batch_idx):
            return self.inner.training_step(batch, batch_idx)

    inner = Failing()
    with pytest.raises(ZeroDivisionError):
        make_trainer().fit(inner, loader)
    inner.fails = False
    failed, sound = Outer(inner), Outer(Recurrent())
    for module in (failed, sound):
        make_trainer().fit(module, loader)
    assert [len(failed.records), len(inner.records)] == [3, 0]
    assert torch.equal(inner.weights(), sound.inner.weights())


def test_a_training_step_borrowed_from_a_frank_wolfe_module_trains_by_back_propagation(
    loader, make_trainer
):
    class Borrows(L.LightningModule):
        training_step = Recurrent.training_step
        forward, weights = Recurrent.forward, Recurrent.weights

        def __init__(self):
            super().__init__()
            self.rnn, self.head, self.seen = nn.RNN(2, 4, batch_first=True), nn.Linear(4, 1), []

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    module, trainer = Borrows(), make_trainer()
    with pytest.warns(UserWarning, match="`training_step` of Borrows was called by Borrows, which"):
        trainer.fit(module, loader)
    assert trainer.global_step == 7


def test_who_validates_by_its_training_step_is_not_told_of_training(loader, make_trainer):
    class Outer(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.inner = Recurrent()

        def validation_step(self, batch, batch_idx):
            return self.inner.training_step(batch, batch_idx)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        make_trainer().validate(Outer(), loader, verbose=False)
    assert not [one for one in told if "`training_step`" in str(one.message)]


def test_a_module_under_fabric_warns_that_nothing_drives_its_windows(loader):
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    module = Recurrent()
    fabric.setup(module)
    batch = next(iter(loader))
    with pytest.warns(UserWarning, match="of Recurrent was called under Fabric, which drives no"):
        module.training_step(batch, 0)
