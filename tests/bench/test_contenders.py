"""What is timed does what its name says."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from lightning_fw.bench.contenders import BALLS, COPY, list_contenders
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
        "spectral() step, row",
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


def made(*balls):
    torch.manual_seed(0)
    module = nn.GRU(2, 3)
    return module, {each.name: each for each in list_contenders(module, balls)}


def test_weights_stay_where_they_are():
    module, contenders = made("l2", "spectral")
    before = [p.detach().clone() for p in module.parameters()]
    for each in contenders.values():
        for _ in range(3):
            each.prepare()
            each.run()
        for old, new in zip(before, module.parameters(), strict=True):
            torch.testing.assert_close(new, old, atol=1e-6, rtol=0, msg=each.name)


def test_the_least_bytes_are_those_of_what_is_read_and_written():
    _, contenders = made("l2", "spectral")
    scopes = ("tensor", "group", "global")
    assert {name: each.floor for name, each in contenders.items() if each.floor is not None} == {
        COPY: 8,
        "Adam, fused": 28,
        "Adam, foreach": 28,
        "Adam, one by one": 28,
        "SGD, foreach": 12,
        **{f"l2 step, {scope}": 16 for scope in scopes},
        "l2 step, norms and sums alone": 16,
        "l2 step, weights moved": 20,
        "… and monitored": 20,
    }


def test_every_step_has_gradients_and_a_direction_of_its_own(monkeypatch):
    step, found = Window.step, []

    def watched(window, *args, **settings):
        found.append((window.has_direction, all(p.grad is not None for p in module.parameters())))
        return step(window, *args, **settings)

    monkeypatch.setattr(Window, "step", watched)
    module, contenders = made("l2")
    for name, each in contenders.items():
        if name.startswith("l2 restart"):
            continue  # fills its window outside the clock
        for _ in range(7):  # beyond a window's five steps
            module.zero_grad()
            each.prepare()
            each.run()
    assert set(found) == {(False, True)}


def test_windows_are_those_of_their_names():
    _, contenders = made(*BALLS)
    windows = {
        name: each.run.__self__
        for name, each in contenders.items()
        if isinstance(getattr(each.run, "__self__", None), Window)
    }
    assert windows["spectral() step"].inner_loop.whitening == 0.95
    assert windows["spectral() step, unwhitened"].inner_loop.whitening is None
    assert windows["spectral() step, row"].inner_loop.whitening == 0.95
    balls = {name: type(window.inner_loop.ball).__name__ for name, window in windows.items()}
    assert balls.pop("spectral() step, row") == "RowBall"
    kinds = ("L1", "L2", "Linf", "Lp", "Nuclear", "RMS", "Row", "Spectral")
    assert {name.partition(" ")[0]: ball for name, ball in balls.items()} == {
        **{kind.lower(): f"{kind}Ball" for kind in kinds},
        "spectral()": "SpectralBall",
    }
    groups = [[info.group for info in window.infos] for window in windows.values()]
    assert all(found == [0, 0, 1, 1] for found in groups), groups


def test_a_restart_is_of_a_full_window_and_moves_the_weights(monkeypatch):
    _, contenders = made("l2")
    restart = contenders["l2 restart, Adam, fused"]
    close, full = Window.close, []
    monkeypatch.setattr(Window, "close", lambda w: (full.append(w.is_full), close(w)))
    stepped = []
    hook = register_optimizer_step_post_hook(lambda it, *_: stepped.append(type(it).__name__))
    try:
        for _ in range(2):
            restart.prepare()
            restart.run()
    finally:
        hook.remove()
    assert full == [True, True]
    assert stepped == ["Adam", "Adam"]


def test_what_is_monitored_counts_statistics(monkeypatch):
    init, told = Window.__init__, []

    def watched(window, *args, **settings):
        told.append(settings.get("statistics"))
        init(window, *args, **settings)

    monkeypatch.setattr(Window, "__init__", watched)
    made("l2")
    assert told.count(True) == 1
