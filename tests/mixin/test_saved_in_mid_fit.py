"""A module in mid-fit is copied, pickled and saved at the anchor, and resumes."""

from __future__ import annotations

import copy
import pickle

import lightning as L
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, SlopeRatio
from tests.mixin.conftest import Recurrent


def test_a_module_in_mid_fit_can_be_copied_and_pickled(loader, make_trainer):
    copied = []

    class Copy(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                copied.append(copy.deepcopy(module))
                pickle.dumps(module.frank_wolfe)

    module = Recurrent()
    make_trainer(callbacks=[Copy()]).fit(module, loader)
    assert not torch.equal(copied[0].weights(), module.weights())


STATEFUL = InnerLoop(
    ball=L2Ball(radius=0.02),
    steps=3,
    momentum=0.9,
    radius_rule=SlopeRatio(),
    direction="displacement",
)


def test_a_checkpoint_in_mid_window_holds_the_anchor_and_the_window(loader, make_trainer, tmp_path):
    class Save(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if batch_idx == 4:
                trainer.save_checkpoint(tmp_path / "mid.ckpt")
                self.weights = module.weights()

    save, module = Save(), Recurrent(STATEFUL, lr=1.0)
    make_trainer(callbacks=[save]).fit(module, loader)
    checkpoint = torch.load(tmp_path / "mid.ckpt", weights_only=True)
    held = nn.utils.parameters_to_vector(checkpoint["state_dict"].values())
    assert torch.equal(held, save.weights)
    assert checkpoint["frank_wolfe"]["window"]["displacement"]["k"] == 2
    assert checkpoint["frank_wolfe"]["tally"]["batches"] == 2


def test_a_fit_resumes_with_momentum_and_radius(loader, make_trainer, tmp_path):
    straight = Recurrent(STATEFUL, lr=1.0)
    make_trainer(max_epochs=2).fit(straight, loader)

    saved = Recurrent(STATEFUL, lr=1.0)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(saved, loader)
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    resumed = Recurrent(STATEFUL, lr=1.0)
    make_trainer(max_epochs=2).fit(resumed, loader, ckpt_path=tmp_path / "epoch.ckpt")
    assert torch.equal(resumed.weights(), straight.weights())
    assert [record.restart for record in resumed.records] == [3, 4, 5]
    assert [r.radius for r in resumed.records] == [r.radius for r in straight.records[3:]]
