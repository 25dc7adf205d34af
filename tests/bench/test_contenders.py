"""What is timed does what its name says."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from lightning_fw.bench.contenders import list_contenders
from lightning_fw.bench.growth import AXES
from lightning_fw.bench.layers import LAYERS
from lightning_fw.window import Window

CPU = torch.device("cpu")


@pytest.fixture
def calls(monkeypatch):
    """How often windows step, move the weights and close."""
    counted = Counter()

    def count(name):
        method = getattr(Window, name)

        def counting(*args, **settings):
            counted[name] += 1
            return method(*args, **settings)

        monkeypatch.setattr(Window, name, counting)

    for name in ("step", "displaced", "close"):
        count(name)
    return counted


def calls_of(contender, calls):
    """Those of one run, after its preparation."""
    contender.prepare()
    calls.clear()
    contender.run()
    return calls["displaced"], calls["step"], calls["close"]


STEP, NONE = (1, 1, 0), (0, 0, 0)


def test_a_step_that_grows_moves_the_weights_and_a_window_does_all_of_its_own(calls):
    found = [
        {each.name: calls_of(each, calls) for each in axis.contenders(axis.sizes[1], CPU)}
        for axis in AXES
    ]
    assert found == [
        {"Adam, fused": NONE, "l2 step": STEP, "spectral() step": STEP},
        {"Adam, fused": NONE, "l2 step": STEP, "l2 step, one by one": NONE},
        {"l2 window and outer step, a batch of it": (2, 2, 1)},
        {"forward and backward": NONE, "l2 step": STEP, "spectral() step": STEP},
    ]


def test_parts_of_a_window_are_timed_by_themselves(calls):
    contenders = {c.name: c for c in list_contenders(nn.GRU(2, 3), ["l2", "spectral"])}
    found = {name: calls_of(each, calls) for name, each in contenders.items()}
    alone = {name for name, counted in found.items() if counted == (0, 1, 0)}
    assert alone == {
        *(f"l2 step, {scope}" for scope in ("tensor", "group", "global")),
        *(f"spectral step, {oracle}" for oracle in ("newton_schulz", "svd")),
        "spectral() step",
        "spectral() step, unwhitened",
    }
    moved = {name for name, counted in found.items() if counted == STEP}
    assert moved == {"l2 step, weights moved", "… and monitored"}
    assert found["l2 restart, Adam, fused"] == (0, 0, 1)


def test_adams_ways_are_those_of_their_names():
    contenders = list_contenders(nn.GRU(2, 3), ["l2"])
    # Of an optimizer it is the bound step that is timed.
    ways = {
        each.name: {way: each.run.__self__.defaults[way] for way in ("fused", "foreach")}
        for each in contenders
        if each.name.startswith("Adam, ")
    }
    assert ways == {
        "Adam, fused": {"fused": True, "foreach": None},
        "Adam, foreach": {"fused": None, "foreach": True},
        "Adam, one by one": {"fused": None, "foreach": False},
    }


def test_what_grows_is_compared_with_fused_adam():
    adam, *_ = AXES[0].contenders(2, CPU)
    assert adam.name == "Adam, fused" and adam.run.__self__.defaults["fused"]


def test_layers_are_those_of_their_names():
    made = {name: make(1, 2, batch_first=True) for name, make in LAYERS.items()}
    found = {
        "torch RNN, tanh": made["torch RNN, tanh"].nonlinearity,
        "torch RNN, relu": made["torch RNN, relu"].nonlinearity,
        "torch RNN, tanh, 6 layers": made["torch RNN, tanh, 6 layers"].num_layers,
        "IndRNNStack, 6 layers": len(made["IndRNNStack, 6 layers"].layers),
        "EquilibriumRNN, 1 step": len(made["EquilibriumRNN, 1 step"].eta),
        "EquilibriumRNN, 5 steps": len(made["EquilibriumRNN, 5 steps"].eta),
    }
    assert list(found.values()) == ["tanh", "relu", 6, 6, 1, 5]
    ranks = {"diagonal": None, "rank 1": 1}
    for name, layer in made.items():
        if name.startswith("SBORNN"):
            _, descent, rank = name.split(", ")
            assert (layer.descent, layer.rank_hh) == (descent, ranks[rank])
