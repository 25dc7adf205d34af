"""Initial weights that keep a state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw.nn import IndRNN, irnn_, orthogonal_


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_irnn_copies_its_state_until_an_input_changes_it(bidirectional):
    rnn = nn.RNN(3, 5, num_layers=2, nonlinearity="relu", bidirectional=bidirectional)
    irnn_(rnn)
    state = torch.rand(2 * (1 + bidirectional), 4, 5)
    with torch.no_grad():
        rnn.weight_ih_l1.zero_()  # the first layer's state is the second layer's input
        if bidirectional:
            rnn.weight_ih_l1_reverse.zero_()
        _, last = rnn(torch.zeros(20, 4, 3), state)
    torch.testing.assert_close(last, state, rtol=0, atol=0)


def test_the_scale_is_that_of_the_identity():
    cell = nn.RNNCell(3, 5, nonlinearity="relu")
    irnn_(cell, scale=0.25)
    torch.testing.assert_close(cell.weight_hh, 0.25 * torch.eye(5), rtol=0, atol=0)
    assert not cell.bias_ih.any() and not cell.bias_hh.any()


@pytest.mark.parametrize(("settings", "deviation"), [({}, 0.001), ({"input_std": 0.02}, 0.02)])
def test_the_input_weights_have_their_deviation(settings, deviation):
    torch.manual_seed(0)
    rnn = nn.RNN(100, 200, nonlinearity="relu")
    irnn_(rnn, **settings)
    # 20 000 draws: the deviation of the estimate is 0.5 %.
    assert rnn.weight_ih_l0.std().item() == pytest.approx(deviation, rel=0.02)
    assert abs(rnn.weight_ih_l0.mean().item()) < 0.05 * deviation


@pytest.mark.parametrize(
    ("module", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4), (nn.GRUCell, 3), (nn.LSTMCell, 4)]
)
def test_every_gate_is_orthogonal(module, gates):
    net = nn.ModuleDict({"cell": module(3, 6), "head": nn.Linear(6, 2)})
    before = {name: p.clone() for name, p in net.named_parameters()}
    orthogonal_(net, gain=1.5)
    for name, parameter in net.named_parameters():
        if "weight_hh" not in name:
            torch.testing.assert_close(parameter, before[name], rtol=0, atol=0)
            continue
        for gate in parameter.detach().reshape(gates, 6, 6):
            torch.testing.assert_close(gate.T @ gate, 2.25 * torch.eye(6), atol=1e-5, rtol=0)


def test_all_layers_and_directions_and_projections_are_reached():
    lstm = nn.LSTM(3, 8, num_layers=2, bidirectional=True, proj_size=5)
    orthogonal_(lstm)
    names = [name for name, _ in lstm.named_parameters() if name.startswith("weight_hh")]
    assert len(names) == 4
    for name in names:
        for gate in getattr(lstm, name).detach().reshape(4, 8, 5):
            torch.testing.assert_close(gate.T @ gate, torch.eye(5), atol=1e-5, rtol=0)


def test_recurrent_weights_that_are_no_matrix_stay_as_they_are():
    net = nn.ModuleList([IndRNN(2, 5), nn.GRU(5, 5)])
    before = net[0].weight_hh.clone()
    orthogonal_(net)
    assert torch.equal(net[0].weight_hh, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_orthogonal_up_to_its_rounding(dtype):
    half, single = nn.GRU(2, 5).to(dtype), nn.GRU(2, 5)
    for gru in (half, single):
        torch.manual_seed(0)
        orthogonal_(gru)
    assert torch.equal(half.weight_hh_l0, single.weight_hh_l0.to(dtype))


@pytest.mark.parametrize(
    ("initialize", "error", "message"),
    [
        (lambda: irnn_(nn.RNN(2, 3)), ValueError, '`module` must have nonlinearity="relu", got '),
        (lambda: irnn_(nn.GRU(2, 3)), TypeError, "`module` must be a torch.nn.RNN .*, got GRU"),
        (lambda: irnn_(_relu(), scale=0.0), ValueError, "`scale` must be positive, got 0.0"),
        (lambda: irnn_(_relu(), input_std=-1), ValueError, "`input_std` must be positive, got -1"),
        (lambda: orthogonal_(_relu(), gain="1"), TypeError, "`gain` must be a number, got '1'"),
        (lambda: orthogonal_(nn.Linear(2, 3)), ValueError, "`module` must hold a recurrent matrix"),
    ],
)
def test_bad_inputs_are_named(initialize, error, message):
    with pytest.raises(error, match=message):
        initialize()


def _relu() -> nn.RNN:
    return nn.RNN(2, 3, nonlinearity="relu")
