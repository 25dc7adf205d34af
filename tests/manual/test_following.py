"""A window goes on as it is while its optimizer trains the same, and follows where it does not."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, ProductBall
from tests.manual.interrupted import Batches, Module
from tests.manual.saved_fits import resume, save_after
from tests.mixin.conftest import Recurrent


class Windows(L.Callback):
    """The window after each batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(module._frank_wolfe_driver.window)


def add_empty(module, optimizer):
    module.nothing = nn.Parameter(torch.ones(0, 3))
    optimizer.add_param_group({"params": [module.nothing]})


def freeze_one(module, optimizer):
    module.head.bias.requires_grad_(False)


def hold_one_twice(module, optimizer):
    # As add_param_group refuses to, but lists may be changed.
    optimizer.param_groups[0]["params"].append(module.head.bias)


def hold_one_in_two_groups(module, optimizer):
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(0))]})
    optimizer.param_groups[1]["params"] = [module.head.bias]


def test_a_window_goes_on_when_a_parameter_of_it_is_frozen(loader, make_trainer):
    class Freeze(Windows):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            module.head.bias.requires_grad_(batch_idx < 2)

    windows = Freeze()
    make_trainer(callbacks=[windows]).fit(Recurrent(), loader)
    assert all(window is windows.seen[0] for window in windows.seen)


@pytest.mark.parametrize("change", [add_empty, freeze_one, hold_one_twice, hold_one_in_two_groups])
def test_a_window_goes_on_while_the_optimizer_trains_what_it_did(change, loader, make_trainer):
    class Changed(Recurrent):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            change(self, optimizer)
            return optimizer

    windows = Windows()
    make_trainer(callbacks=[windows]).fit(Changed(), loader)
    assert all(window is windows.seen[0] for window in windows.seen)


def test_a_window_moves_parameters_in_the_order_in_which_its_optimizer_holds_them(
    loader, make_trainer
):
    class Reverse(Windows):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 4:
                trainer.optimizers[0].param_groups[0]["params"].reverse()

    windows, module = Reverse(), Recurrent()
    make_trainer(callbacks=[windows]).fit(module, loader)
    moved = [info.name for info in windows.seen[-1].infos]
    assert moved == [name for name, _ in module.named_parameters()][::-1]


def test_a_pattern_may_be_of_a_parameter_that_is_not_the_module_s(loader, make_trainer):
    class Beside(Recurrent):
        def configure_optimizers(self):
            self.beside = [nn.Parameter(torch.ones(2))]
            return torch.optim.SGD([*self.parameters(), *self.beside], lr=1.0)

        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) + self.beside[0].sum()

    balls = {"param_groups.*": L2Ball(radius=0.5), "*": L2Ball(radius=0.01)}
    module = Beside(InnerLoop(ball=ProductBall(balls), steps=1, direction="displacement"))
    with pytest.warns(UserWarning, match="parameters that are not of the module"):
        make_trainer(limit_train_batches=1).fit(module, loader)
    torch.testing.assert_close((module.beside[0] - 1).norm().item(), 0.5)


def test_a_pattern_waits_in_a_fit_that_resumes_too(make_trainer, tmp_path):
    class Frozen(Module):
        def __init__(self, loop):
            super().__init__(loop)
            self.head.requires_grad_(False)

        def on_train_epoch_start(self):
            self.head.requires_grad_(self.current_epoch == 1)

    balls = {"head*": L2Ball(radius=0.05), "rnn*": L2Ball(radius=0.05)}
    loop = InnerLoop(ball=ProductBall(balls), steps=3, momentum=0.5)
    straight = Frozen(loop)
    make_trainer(max_epochs=2).fit(straight, Batches())
    path = save_after(4, Frozen(loop), make_trainer, tmp_path)
    resumed = Frozen(loop)
    resume(path, resumed, make_trainer)
    assert torch.equal(resumed.weights(), straight.weights())
