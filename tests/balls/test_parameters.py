"""What is known of each parameter: name, param group, gates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from lightning_fw.balls import SpectralBall
from lightning_fw.parameters import ParameterInfo, trainable


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 6, num_layers=2, bidirectional=True, proj_size=2)
        self.gru = nn.GRU(3, 6)
        self.cells = nn.ModuleList([nn.LSTMCell(3, 6), nn.GRUCell(3, 6), nn.RNNCell(3, 6)])
        self.rnn = nn.RNN(3, 6)
        self.head = nn.Linear(6, 2)


def infos_of(module: nn.Module, groups: Any = None) -> list[ParameterInfo]:
    optimizer = torch.optim.SGD(groups or module.parameters(), lr=1.0)
    return trainable(optimizer.param_groups, module)[1]


def test_names_are_those_of_the_module_in_the_optimizer_s_order() -> None:
    module = Tagger()
    backwards = list(module.parameters())[::-1]
    optimizer = torch.optim.SGD(backwards, lr=1.0)
    parameters, infos = trainable(optimizer.param_groups, module)
    assert all(mine is theirs for mine, theirs in zip(parameters, backwards, strict=True))
    names = [name for name, _ in module.named_parameters()]
    assert [info.name for info in infos] == names[::-1]


@pytest.mark.parametrize(
    ("prefix", "gates"), [("lstm", 4), ("gru", 3), ("cells.0", 4), ("cells.1", 3)]
)
def test_recurrent_weights_stack_gates(prefix: str, gates: int) -> None:
    found = {info.name: info.gates for info in infos_of(Tagger()) if info.name.startswith(prefix)}
    weights = {name for name in found if ".weight_ih" in name or ".weight_hh" in name}
    assert weights
    for name, count in found.items():
        assert count == (gates if name in weights else 1), name


@pytest.mark.parametrize("dim", [0, 1, None])
def test_a_parametrized_weight_is_what_it_was(dim: int | None) -> None:
    module = Tagger()
    for layer in (module.lstm, module.cells[0], module.gru, module.rnn):
        for name, _ in list(layer.named_parameters(recurse=False)):
            if name.startswith(("weight_ih", "weight_hh")):
                parametrizations.weight_norm(layer, name, dim=dim)
    infos = {info.name: info for info in infos_of(module)}
    for prefix, gates in (("lstm", 4), ("cells.0", 4), ("gru", 3), ("rnn", 1)):
        found = [name for name in infos if name.startswith(prefix) and name.endswith("original1")]
        assert found
        for name in found:
            info = infos[name]
            assert (info.gates, info.is_of_head) == (gates, False), name
            assert info.is_recurrent == ("weight_hh" in name)
            assert info.reads_input == ("weight_ih" in name)


def test_factors_of_a_weight_stack_no_gates() -> None:
    class Product(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left @ right

        def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return weight[:, :4].clone(), torch.eye(4, weight.shape[1])

    module = nn.LSTM(3, 8)
    parametrize.register_parametrization(module, "weight_hh_l0", Product())
    gates = {info.name.rpartition(".")[2]: info.gates for info in infos_of(module)}
    assert (gates["original0"], gates["original1"]) == (4, 1)


def test_balls_serve_parametrized_weights_by_gate() -> None:
    torch.manual_seed(0)
    module = nn.LSTM(3, 4)
    plain = SpectralBall().lmo([p.detach() for p in module.parameters()], infos_of(module))
    parametrizations.orthogonal(module, "weight_hh_l0")
    gradients = [p.detach() for p in module.parameters()]
    gradients[-1] = module.weight_hh_l0.detach()
    atoms = SpectralBall().lmo(gradients, infos_of(module))
    assert atoms[-1].shape == plain[1].shape
    singular = torch.linalg.svdvals(atoms[-1].view(4, 4, 4))
    torch.testing.assert_close(singular, torch.full((4, 4), 0.01), atol=4e-4, rtol=0)


def test_a_projection_is_not_of_the_head() -> None:
    infos = {info.name: info for info in infos_of(Tagger())}
    assert [name for name in infos if infos[name].is_of_head and "weight" in name] == [
        "head.weight"
    ]


def test_without_a_name_nothing_is_of_the_head() -> None:
    assert not ParameterInfo().is_of_head


def test_other_parameters_are_one_matrix() -> None:
    found = infos_of(Tagger())
    plain = [i for i in found if i.name.startswith(("rnn", "head", "cells.2")) or "bias" in i.name]
    assert len(plain) > 10
    assert {info.gates for info in plain} == {1}
    # A projection follows the gates and is not stacked.
    assert {info.gates for info in found if ".weight_hr" in info.name} == {1}


def test_a_subclass_of_a_recurrent_module_counts() -> None:
    class MyLSTM(nn.LSTM):
        pass

    assert [info.gates for info in infos_of(MyLSTM(2, 3))] == [4, 4, 1, 1]


def test_other_matrices_of_a_recurrent_module_stack_no_gates() -> None:
    class Mixing(nn.LSTM):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.mix = nn.Linear(3, 12)

    gates = {info.name: info.gates for info in infos_of(Mixing())}
    assert (gates["weight_hh_l0"], gates["mix.weight"]) == (4, 1)


def test_groups_are_numbered_as_in_the_optimizer() -> None:
    module = Tagger()
    groups = [
        {"params": list(module.head.parameters())},
        {"params": list(module.rnn.parameters()), "lr": 0.1},
    ]
    infos = infos_of(module, groups)
    assert [(info.name, info.group) for info in infos[:3]] == [
        ("head.weight", 0),
        ("head.bias", 0),
        ("rnn.weight_ih_l0", 1),
    ]


def test_frozen_and_empty_parameters_are_left_out() -> None:
    module = nn.ParameterDict(
        {
            "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
            "empty": nn.Parameter(torch.ones(0, 3)),
            "moved": nn.Parameter(torch.ones(2)),
        }
    )
    assert [info.name for info in infos_of(module)] == ["moved"]


def test_a_parameter_from_elsewhere_is_named_by_its_place() -> None:
    module = nn.Linear(2, 2)
    others = [torch.ones(2).requires_grad_() for _ in range(2)]
    groups = [{"params": list(module.parameters())}, {"params": others}]
    assert [info.name for info in infos_of(module, groups)] == [
        "weight",
        "bias",
        "param_groups.1.0",
        "param_groups.1.1",
    ]


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda module, optimizer: optimizer, "SGD"),
        (lambda module, optimizer: module, "GRU"),
        (lambda module, optimizer: module.parameters(), "Parameter"),
        (lambda module, optimizer: optimizer.state_dict(), "str"),
        (lambda module, optimizer: [{}], "dict"),
    ],
    ids=["optimizer", "module", "parameters", "state", "empty group"],
)
def test_what_are_no_param_groups_is_refused(wrong: Any, found: str) -> None:
    module = nn.GRU(3, 6)
    given = wrong(module, torch.optim.SGD(module.parameters(), lr=1.0))
    with pytest.raises(TypeError, match=f"`param_groups` must be those .* got a {found} among"):
        trainable(given, module)


def test_a_module_that_owns_none_of_them_is_refused() -> None:
    module = Tagger()
    with pytest.raises(ValueError, match="`module` must own .* got a Linear that has none of its"):
        trainable(torch.optim.SGD(module.parameters(), lr=1.0).param_groups, nn.Linear(2, 2))


def test_a_tied_weight_has_its_first_name() -> None:
    module = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    module[1].weight = module[0].weight
    assert [info.name for info in infos_of(module)] == ["0.weight"]


class OwnCell(nn.Module):
    stacked_gates: Any = 4

    def __init__(self, hidden_size: Any = 6) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.both = nn.Linear(3 + 6, 4 * 6)
        self.out = nn.Linear(6, 2)


def test_a_cell_of_ones_own_tells_its_gates() -> None:
    infos = {info.name: info for info in infos_of(OwnCell())}
    assert {name: info.gates for name, info in infos.items()} == {
        "both.weight": 4, "both.bias": 1, "out.weight": 1, "out.bias": 1,
    }  # fmt: skip
    assert not infos["both.weight"].is_of_head
    assert infos["out.weight"].is_of_head


@pytest.mark.parametrize(("gates", "hidden_size"), [("four", 6), (4, None)])
def test_gates_that_cannot_be_counted_are_named(gates: Any, hidden_size: Any) -> None:
    cell = OwnCell(hidden_size)
    cell.stacked_gates = gates
    wrong = "stacked_gates" if gates == "four" else "hidden_size"
    with pytest.raises(TypeError, match=f"`{wrong}` must be an int"):
        infos_of(cell)
