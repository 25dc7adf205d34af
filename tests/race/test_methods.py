"""Who races: each method is what its name says, and has a space of its own to be tuned in."""

from __future__ import annotations

import sys

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.nn import SequenceRegressor
from lightning_fw.parameters import stacked_gates
from lightning_fw.race.contestant import contestant, measured
from lightning_fw.race.entrants import Entrant, enter, shipped
from lightning_fw.race.methods import METHODS
from lightning_fw.race.muon_per_gate import MuonPerGate
from lightning_fw.race.normalized_sgd import NormalizedSGD
from lightning_fw.race.tasks import TASKS

SIZES = {"input_size": 3, "output_size": 1, "hidden_size": 4}


def with_gradients(cell="lstm"):
    torch.manual_seed(0)
    model = SequenceRegressor(cell, **SIZES)
    model(torch.randn(5, 6, 3)).square().mean().backward()
    return model


@pytest.mark.parametrize("name", METHODS)
def test_what_is_usual_lies_in_the_space_that_is_searched(name):
    method = METHODS[name]
    assert set(method.usual) == set(method.space)
    for key, value in method.usual.items():
        assert method.space[key].low <= value <= method.space[key].high


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_an_inner_loop_or_an_optimizer(name):
    method = METHODS[name]
    assert method.name == name
    assert (method.inner_loop is None) == (method.family == "back-propagation" or "muon" in name)
    assert method.inner_loop is not None or method.optimizer is not None
    if method.inner_loop is not None:
        assert isinstance(method.inner_loop(dict(method.usual)), InnerLoop)


def test_presets_are_the_inner_loops():
    loops = {name: METHODS[name].inner_loop for name in ("spectral", "paper", "authors")}
    assert loops["spectral"]({}) == InnerLoop.spectral()
    assert loops["paper"]({}) == InnerLoop.paper()
    assert loops["authors"]({"lr": 0.25}) == InnerLoop.authors(0.25)


def test_ablations_change_one_thing():
    spectral = InnerLoop.spectral()
    fields = {
        "spectral-harmonic": {"step_size"},
        "spectral-one-momentum": {"recurrent_momentum"},
        "spectral-no-momentum": {"momentum", "recurrent_momentum", "nesterov", "whitening"},
        "spectral-no-nesterov": {"nesterov"},
        "spectral-unwhitened": {"whitening"},
        "spectral-one-radius": {"ball"},
        "spectral-wide-inputs": {"ball"},
        "spectral-wide-head": {"ball"},
        "spectral-k3": {"steps"},
        "spectral-k10": {"steps"},
        "ball-linf": {"ball", "radius_rule"},
        "ball-l2": {"ball", "radius_rule"},
    }
    for name, changed in fields.items():
        loop = METHODS[name].inner_loop({})
        assert {key for key in vars(loop) if vars(loop)[key] != vars(spectral)[key]} == changed
    for anchored, fixed in (("l2", "l2-fixed-anchor"), ("spectral-fixed-radius", None)):
        fixed = fixed or "spectral-fixed-anchor"
        setting = dict(METHODS[anchored].usual)
        a, b = (METHODS[name].inner_loop(setting) for name in (anchored, fixed))
        assert {key for key in vars(a) if vars(a)[key] != vars(b)[key]} == {"trajectory"}
    a, b = (METHODS[f"spectral-{n}"].inner_loop({"radius": 0.02}) for n in ("fixed-radius", "k1"))
    assert {key for key in vars(a) if vars(a)[key] != vars(b)[key]} == {"steps"}


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="Muon came with torch 2.9")
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_muon_moves_each_gate_as_muon_alone_would(cell):
    model = with_gradients(cell)
    gates = stacked_gates(model.rnn)
    apart = {
        name: [nn.Parameter(g.detach().clone()) for g in p.chunk(gates.get(id(p), 1))]
        for name, p in model.rnn.named_parameters()
        if p.ndim == 2
    }
    for name, parts in apart.items():
        gradient = model.rnn.get_parameter(name).grad
        for part, part_gradient in zip(parts, gradient.chunk(len(parts)), strict=True):
            part.grad = part_gradient.clone()
    rest = [p for p in model.parameters() if p.ndim == 1] + [model.head.weight]
    vectors = [nn.Parameter(p.detach().clone()) for p in rest]
    for ours, theirs in zip(vectors, rest, strict=True):
        ours.grad = theirs.grad.clone()
    reference = torch.optim.Muon(
        [part for parts in apart.values() for part in parts], lr=0.1, weight_decay=0.0
    )
    adam = torch.optim.AdamW(vectors, lr=0.01)
    optimizer = MuonPerGate(model.rnn, model.head.parameters(), lr=0.1, adam_lr=0.01)
    for _ in range(3):
        reference.step()
        adam.step()
        optimizer.step()
    for name, parts in apart.items():
        torch.testing.assert_close(model.rnn.get_parameter(name), torch.cat(parts))
    for ours, theirs in zip(vectors, rest, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_normalized_sgd_takes_steps_of_one_length_along_its_average():
    weight, bias = (nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (4,)))
    optimizer = NormalizedSGD([weight, bias], lr=0.5, momentum=0.8)
    average = torch.zeros(16)
    for _ in range(4):
        before = torch.cat([weight.detach().flatten(), bias.detach()]).clone()
        weight.grad, bias.grad = torch.randn(4, 3), torch.randn(4)
        average = 0.8 * average + 0.2 * torch.cat([weight.grad.flatten(), bias.grad])
        optimizer.step()
        after = torch.cat([weight.detach().flatten(), bias.detach()])
        torch.testing.assert_close(after, before - 0.5 * average / average.norm())


def test_normalized_sgd_stays_where_the_gradient_is_zero():
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.zeros(2)
    NormalizedSGD([weight], lr=0.5, momentum=0.8).step()
    assert weight.tolist() == [1.0, 1.0]


def test_a_schedule_free_average_is_measured_and_training_goes_on_from_its_own_point():
    pytest.importorskip("schedulefree", reason="needs the extra `race`")
    seen = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            training = parameters_to_vector(pl_module.parameters())
            with measured(pl_module, []):
                average = parameters_to_vector(pl_module.parameters())
            seen.append(not torch.equal(training, average))
            # To the last bit, or curves would depend on how often one measures.
            assert torch.equal(parameters_to_vector(pl_module.parameters()), training)

    model = contestant(enter("schedule-free", "adding", "gru"), "regression", cell="gru", **SIZES)
    x, y = torch.randn(20, 6, 3), torch.randn(20, 1)
    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 5)
    L.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[Look()],
        accelerator="cpu",
    ).fit(model, batches, batches)
    assert seen[-1]


def test_a_missing_package_is_named(monkeypatch):
    # None in sys.modules hides what is installed.
    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs schedulefree. Run pip install 'light"):
        METHODS["schedule-free"].require_package()


def test_what_is_shipped_is_of_methods_and_tasks_that_there_are():
    assert len(shipped()) > 5
    for line in shipped():
        assert line.task in TASKS
        assert set(line.setting) == set(METHODS[line.method].space)
        for key, value in line.setting.items():
            space = METHODS[line.method].space[key]
            assert space.low <= value <= space.high
    keys = [line[:4] for line in shipped()]
    assert len(keys) == len(set(keys))


def test_labels_say_what_was_tuned():
    assert enter("spectral", "adding", "lstm").label == "Frank-Wolfe, spectral (not tuned)"
    given = enter("adam-clip", "adding", "lstm", given={"lr": 0.5, "clip": 2.0})
    assert given.label == "Adam + clipping (not tuned: lr=0.5 clip=2)"
    assert Entrant(METHODS["adam"], {"lr": 0.5}, is_tuned=True).label == "Adam (tuned: lr=0.5)"


def test_what_was_tuned_for_one_rank_is_not_tuned_for_three():
    line = next(line for line in shipped() if line.ranks == 1)
    alone, apart = (enter(line.method, line.task, line.cell, ranks=n) for n in (1, 3))
    assert alone.setting == apart.setting == line.setting
    assert (alone.is_tuned, apart.is_tuned) == (True, False)


def test_batches_between_messages_are_the_inner_loops_on_ranks_that_talk_at_restarts():
    assert enter("local", "digits", "lstm").batches_a_message == 2
    assert enter("spectral", "digits", "lstm").batches_a_message == 1
    assert enter("adam-accumulated", "digits", "lstm").batches_a_message == 3
