"""Copies of a module, made before, during and after a fit."""

from __future__ import annotations

import copy
import pickle

import lightning as L
import pytest
import torch

from tests.mixin.conftest import Recurrent


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
@pytest.mark.parametrize("when", ["before", "mid-window", "after"])
def test_a_copy_holds_the_anchor_trains_alone_and_leaves_the_original(
    clone, when, loader, make_trainer
):
    copies = []

    class Copy(L.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            if when == "mid-window" and batch_idx == 4:
                copies.append((clone(module), module.weights()))

    undisturbed, module = Recurrent(), Recurrent()
    make_trainer().fit(undisturbed, loader)
    if when == "before":
        copies.append((clone(module), module.weights()))
    make_trainer(callbacks=[Copy()]).fit(module, loader)
    if when == "after":
        copies.append((clone(module), module.weights()))
    assert torch.equal(module.weights(), undisturbed.weights())
    (twin, weights), end = copies[0], module.weights()
    assert torch.equal(twin.weights(), weights)
    twin.records.clear()
    make_trainer().fit(twin, loader)
    assert [(record.restart, record.steps) for record in twin.records] == [(0, 3), (1, 3), (2, 1)]
    assert not torch.equal(twin.weights(), weights)
    assert torch.equal(module.weights(), end)
