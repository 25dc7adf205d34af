"""Rivals step as their names and settings say."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.race.methods import METHODS
from tests.race.test_methods import with_gradients

BOTH = {"lr": 0.3, "momentum": 0.6}


@pytest.mark.parametrize(
    ("name", "setting", "kind", "found"),
    [
        ("adam", {"lr": 0.3}, "Adam", {"lr": 0.3}),
        ("adamw", {"lr": 0.3, "weight_decay": 0.2}, "AdamW", {"lr": 0.3, "weight_decay": 0.2}),
        ("sgd", BOTH, "SGD", {**BOTH, "nesterov": True}),
        ("rmsprop", {"lr": 0.3}, "RMSprop", {"lr": 0.3}),
        ("normalized-sgd", BOTH, "NormalizedSGD", BOTH),
        ("lookahead", {"lr": 0.3, "alpha": 0.7}, "Lookahead", {"lr": 0.3}),
        ("schedule-free", {"lr": 0.3}, "AdamWScheduleFree", {"lr": 0.3}),
        ("scion", {}, "SGD", {"lr": 1.0, "momentum": 0}),
        ("l2", {"lr": 0.3}, "Adam", {"lr": 0.3}),
    ],
)
def test_an_optimizer_is_the_one_of_its_name_at_the_setting(name, setting, kind, found):
    METHODS[name].require_package()
    optimizer = METHODS[name].optimizer(with_gradients(), setting)
    assert type(optimizer).__name__ == kind
    (group,) = optimizer.param_groups
    assert {key: group[key] for key in found} == found


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon came with torch 2.9")
def test_muon_moves_the_recurrent_layer_and_adamw_the_head():
    model = with_gradients()
    before = model.head.bias.detach().clone(), model.rnn.bias_hh_l0.detach().clone()
    METHODS["muon"].optimizer(model, {"lr": 0.5, "adam_lr": 0.02}).step()
    # A first step of Adam is as long as the learning rate in every entry.
    for old, new in zip(before, (model.head.bias, model.rnn.bias_hh_l0), strict=True):
        torch.testing.assert_close((new - 0.9998 * old).abs(), torch.full_like(old, 0.02))


def test_lookahead_goes_its_share_of_the_way_every_five_steps():
    METHODS["lookahead"].require_package()
    setting = {**METHODS["lookahead"].usual, "alpha": 0.7}
    optimizer = METHODS["lookahead"].optimizer(with_gradients(), setting)
    assert (optimizer.k, optimizer.alpha) == (5, 0.7)


@pytest.mark.parametrize("name", ["normalized-sgd", "muon"])
def test_a_step_takes_a_closure_and_leaves_what_has_no_gradient(name):
    if name == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("Muon came with torch 2.9")
    model = with_gradients()
    optimizer = METHODS[name].optimizer(model, METHODS[name].usual)
    still = model.rnn.weight_ih_l0.requires_grad_(False)
    before = still.clone()
    x = torch.randn(5, 6, 3)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    first, *_, last = [optimizer.step(closure).item() for _ in range(5)]
    assert last < first
    assert torch.equal(still, before)


def test_an_old_torch_has_no_muon(monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"Run pip install 'torch>=2.9'"):
        METHODS["muon"].optimizer(with_gradients(), METHODS["muon"].usual)
