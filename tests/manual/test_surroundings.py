"""What Lightning has around training_step alone is around it alone here, too."""

from __future__ import annotations

import lightning.pytorch
import pytest
import torch
from torch.optim import SGD

from tests.manual.twins import Parts, fit, twins, weights


class Counting(SGD):
    """Counts its steps in a tensor of the default dtype, as optimizers of users do."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.steps = getattr(self, "steps", 0) + torch.tensor(1.0)
        return loss


class Noting(Parts):
    """Notes the default dtype in training_step and around the optimizer."""

    def __init__(self):
        super().__init__(lambda module: Counting(module.parameters(), lr=0.1))
        self.dtypes = {}

    def note(self, moment):
        self.dtypes[moment] = torch.get_default_dtype()

    def training_step(self, batch, batch_idx):
        self.note("training_step")
        return super().training_step(batch, batch_idx)

    def on_before_zero_grad(self, optimizer):
        self.note("on_before_zero_grad")

    def on_before_backward(self, loss):
        self.note("on_before_backward")

    def on_after_backward(self):
        self.note("on_after_backward")

    def on_before_optimizer_step(self, optimizer):
        self.note("on_before_optimizer_step")

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        self.note("optimizer_step")
        optimizer.step(optimizer_closure)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.note("on_train_batch_end")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "16-true", "64-true"])
def test_the_default_dtype_of_a_precision_is_that_of_training_step_alone(precision):
    plain, mixed = (kind() for kind in twins(Noting))
    for module in (plain, mixed):
        fit(module, precision=precision)
    assert mixed.dtypes == plain.dtypes
    assert mixed.dtypes["optimizer_step"] == torch.float32
    counts = [module.trainer.optimizers[0].steps for module in (plain, mixed)]
    assert counts[0] == counts[1] == 21
    assert counts[0].dtype == counts[1].dtype == torch.float32
    assert torch.get_default_dtype() == torch.float32


def test_a_default_dtype_that_a_hook_sets_stays():
    class Setting(Noting):
        def on_fit_start(self):
            torch.set_default_dtype(torch.float64)

    plain, mixed = (kind() for kind in twins(Setting))
    for module in (plain, mixed):
        try:
            fit(module)
        finally:
            torch.set_default_dtype(torch.float32)
    assert mixed.dtypes == plain.dtypes
    assert set(mixed.dtypes.values()) == {torch.float64}


@pytest.mark.parametrize("hook", ["on_train_start", "on_train_batch_start"])
def test_gradients_that_a_callback_left_off_are_on_in_training_step(hook):
    class Off(lightning.pytorch.Callback):
        pass

    setattr(Off, hook, lambda self, *arguments: torch.set_grad_enabled(False))
    for kind in twins(Parts):
        module = kind()
        before = weights(module).clone()
        try:
            fit(module, callbacks=[Off()])
        finally:
            torch.set_grad_enabled(True)
        assert not torch.equal(weights(module), before)
