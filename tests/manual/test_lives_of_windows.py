"""How long a window's buffers and graphs live, and what changes in mid-window do to it."""

from __future__ import annotations

import copy
import pickle
import weakref

import lightning as L
import pytest
import torch

from lightning_fw import InnerLoop, L2Ball
from tests.mixin.conftest import Recurrent


def test_a_copy_made_within_training_step_trains(loader, make_trainer):
    copies = []

    class Best(L.Callback):
        def on_restart(self, trainer, module, record):
            copies.append(copy.deepcopy(module))

    make_trainer(callbacks=[Best()]).fit(Recurrent(), loader)
    twin = copies[0]
    before, trainer = twin.weights(), make_trainer()
    trainer.fit(twin, loader)
    assert trainer.global_step == 3
    assert not torch.equal(twin.weights(), before)


def test_a_copy_made_within_training_step_may_go_backward_before_its_own(loader, make_trainer):
    class Copying(Recurrent):
        copies = []

        def training_step(self, batch, batch_idx):
            if not self.copies:
                self.copies.append(copy.deepcopy(self))
            return super().training_step(batch, batch_idx)

        def on_train_start(self):
            self.manual_backward(self.head.weight.sum())

    make_trainer().fit(Copying(), loader)
    trainer = make_trainer()
    trainer.fit(Copying.copies[0], loader)
    assert trainer.global_step == 3


@pytest.mark.parametrize("loop", [InnerLoop(steps=3), InnerLoop.spectral()], ids=["l2", "spectral"])
def test_a_loss_may_have_one_dimension(loop, loader, make_trainer):
    class OneDimensional(Recurrent):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx).reshape(1)

    fitted = []
    for kind in (OneDimensional, Recurrent):
        module = kind(loop, lr=1.0)
        make_trainer().fit(module, loader)
        fitted.append(module)
    assert torch.equal(fitted[0].weights(), fitted[1].weights())
    assert fitted[0].records[0].loss_first == fitted[1].records[0].loss_first


def test_a_parameter_frozen_in_mid_window_takes_the_step_that_its_gradients_found(
    loader, make_trainer
):
    class Freeze(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            weights.append(module.head.weight.detach().clone())
            if batch_idx == 1:
                module.head.weight.requires_grad_(False)

    weights = []
    module = Recurrent()
    make_trainer(callbacks=[Freeze()]).fit(module, loader)
    assert torch.equal(weights[2], weights[0])
    assert not torch.equal(weights[3], weights[0])
    assert torch.equal(module.head.weight, weights[3])
    assert module.head.weight.grad is None


def test_after_a_fit_a_module_pickles_and_keeps_no_buffers(loader, make_trainer):
    loop = InnerLoop(ball=L2Ball(radius=0.02), steps=3, radius_rule=lambda step: 1.0)
    module = Recurrent(loop)
    trainer = make_trainer()
    window = []

    class Watch(L.Callback):
        def on_train_end(self, trainer, module):
            window.append(weakref.ref(module._frank_wolfe_driver.window))

    trainer.callbacks.append(Watch())
    trainer.fit(module, loader)
    module.inner_loop = None
    pickle.dumps(module)
    assert window[0]() is None
    with pytest.raises(RuntimeError, match="`frank_wolfe` is the live window of a fit"):
        _ = module.frank_wolfe.k


def test_outputs_of_further_evaluations_die_at_once(loader, make_trainer):
    alive, hidden = [], []

    class Returning(Recurrent):
        def training_step(self, batch, batch_idx):
            alive.append(sum(ref() is not None for ref in hidden))
            loss = super().training_step(batch, batch_idx)
            states = self.rnn(batch[0])[0]
            hidden.append(weakref.ref(states))
            return {"loss": loss, "states": states}

    make_trainer(limit_train_batches=1).fit(Returning(InnerLoop(steps=4, batches="same")), loader)
    # The first evaluation's is the batch's output.
    assert alive == [0, 1, 1, 1]


def test_who_listens_from_the_second_epoch_on_gets_whole_records(loader, make_trainer):
    heard = []

    class Late(L.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 1:
                trainer.callbacks.append(Listener())

    class Listener(L.Callback):
        def on_restart(self, trainer, module, record):
            heard.append(record)

    module = Recurrent()
    assigned = []
    module.on_restart = assigned.append
    make_trainer(max_epochs=2, callbacks=[Late()]).fit(module, loader)
    assert len(assigned) == 6
    assert all(record.ball_usage > 0 for record in assigned)
    assert len(heard) == 3
    assert all(record.cosine != 0 for record in heard)


def test_a_view_follows_to_the_window_of_more_parameters(loader, make_trainer):
    seen = []

    class Unfreeze(L.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if batch_idx == 1:
                self.view = module.frank_wolfe
            if batch_idx == 4:
                module.head.weight.requires_grad_(True)

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 6:
                seen.append((self.view.restart, module.frank_wolfe.restart))

    module = Recurrent()
    module.head.weight.requires_grad_(False)
    make_trainer(callbacks=[Unfreeze()]).fit(module, loader)
    assert seen == [(3, 3)]


def test_regrouped_parameters_get_the_balls_of_their_groups(loader, make_trainer):
    class Grouped(Recurrent):
        def configure_optimizers(self):
            groups = [{"params": self.rnn.parameters()}, {"params": self.head.parameters()}]
            return torch.optim.SGD(groups, lr=0.1)

    class Regroup(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            groups = trainer.optimizers[0].param_groups
            if batch_idx == 2:
                groups[0]["params"] += groups[1]["params"]
                del groups[1]
            if batch_idx == 5:
                self.groups = {info.group for info in module._frank_wolfe_driver.window.infos}

    regroup = Regroup()
    loop = InnerLoop(ball=L2Ball(radius=0.1, scope="group"), steps=3)
    make_trainer(callbacks=[regroup]).fit(Grouped(loop), loader)
    assert regroup.groups == {0}
