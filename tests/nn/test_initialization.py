"""Initial weights that keep a state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw.nn import IndRNN, chrono_, irnn_, make_cell, orthogonal_


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


def memory(layer, suffix, gates):
    """The biases of the gates as the cell adds them up."""
    return (
        layer.get_parameter(f"bias_ih{suffix}") + layer.get_parameter(f"bias_hh{suffix}")
    ).chunk(gates)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_lstm_forgets_after_times_spread_evenly(bidirectional):
    torch.manual_seed(0)
    lstm = nn.LSTM(2, 5000, num_layers=2, bidirectional=bidirectional)
    chrono_(lstm, steps=101)
    names = [name for name, _ in lstm.named_parameters() if name.startswith("bias_ih")]
    assert len(names) == 2 * (1 + bidirectional)
    for name in names:
        i, f, _, _ = memory(lstm, name.removeprefix("bias_ih"), 4)
        times = f.detach().exp()
        assert times.min() >= 1 - 1e-5 and times.max() <= 100 + 1e-3
        # Of 5000 draws from U(1, 100) the mean strays by 0.4, the deviation of 28.6 by 0.2.
        assert times.mean().item() == pytest.approx(50.5, abs=2)
        assert times.std().item() == pytest.approx(28.6, abs=1)
        assert torch.equal(i, -f)


@pytest.mark.parametrize(("layer", "suffix"), [(nn.GRU(2, 400), "_l0"), (nn.GRUCell(2, 400), "")])
def test_an_undisturbed_gru_keeps_a_share_of_its_state_for_those_times(layer, suffix):
    chrono_(layer, steps=50)
    _, update, _ = memory(layer, suffix, 3)
    assert update.min() >= 0 and update.max() <= torch.tensor(49.0).log() + 1e-5
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "weight" in name:
                parameter.zero_()
        getattr(layer, f"bias_ih{suffix}")[800:].zero_()
        getattr(layer, f"bias_hh{suffix}")[800:].zero_()
        state = torch.ones(1, 1, 400) if suffix else torch.ones(1, 400)
        later = layer(torch.zeros(1, 1, 2) if suffix else torch.zeros(1, 2), state)
        later = later[1] if suffix else later
    torch.testing.assert_close(later.flatten(), update.detach().sigmoid())


@pytest.mark.parametrize(("layer", "gates"), [(nn.LSTMCell(2, 6), 2), (nn.GRUCell(2, 6), 1)])
def test_other_weights_than_those_gates_biases_stay_as_they_are(layer, gates):
    net = nn.ModuleDict({"cell": layer, "head": nn.Linear(6, 2)})
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    chrono_(net, steps=50)
    first = 0 if gates == 2 else 6
    for name, parameter in net.named_parameters():
        changed = parameter.detach() != before[name]
        expected = torch.zeros_like(changed)
        if "cell.bias" in name:
            expected[first : first + 6 * gates] = True
        assert torch.equal(changed, expected), name


def test_cells_by_name_begin_to_remember():
    torch.manual_seed(0)
    cell = make_cell("lstm", 2, 8, chrono=40)
    _, forget, _, _ = memory(cell, "_l0", 4)
    torch.manual_seed(0)
    other = nn.LSTM(2, 8, batch_first=True)
    chrono_(other, 40)
    assert torch.equal(forget, memory(other, "_l0", 4)[1])


@pytest.mark.parametrize(
    ("initialize", "error", "message"),
    [
        (lambda: irnn_(nn.RNN(2, 3)), ValueError, '`module` must have nonlinearity="relu", got '),
        (lambda: irnn_(nn.GRU(2, 3)), TypeError, "`module` must be a torch.nn.RNN .*, got GRU"),
        (lambda: irnn_(_relu(), scale=0.0), ValueError, "`scale` must be positive, got 0.0"),
        (lambda: irnn_(_relu(), input_std=-1), ValueError, "`input_std` must be positive, got -1"),
        (lambda: orthogonal_(_relu(), gain="1"), TypeError, "`gain` must be a number, got '1'"),
        (lambda: orthogonal_(nn.Linear(2, 3)), ValueError, "`module` must hold a recurrent matrix"),
        (lambda: chrono_(nn.RNN(2, 3), 9), ValueError, "must hold LSTM or GRU layers .* got RNN"),
        (lambda: chrono_(nn.LSTM(2, 3, bias=False), 9), ValueError, "got a layer without biases"),
        (lambda: chrono_(nn.LSTM(2, 3), 2), ValueError, "`steps` must be at least 3, got 2"),
        (lambda: chrono_(nn.LSTM(2, 3), 9.0), TypeError, "`steps` must be an int, got 9.0"),
        (lambda: make_cell("gru", 2, 3, chrono=2), ValueError, "`chrono` must be at least 3"),
        (lambda: make_cell("rnn", 2, 3, chrono=9), ValueError, "`chrono` must be None with cell="),
    ],
)
def test_bad_inputs_are_named(initialize, error, message):
    with pytest.raises(error, match=message):
        initialize()


def _relu() -> nn.RNN:
    return nn.RNN(2, 3, nonlinearity="relu")
