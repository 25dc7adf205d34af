"""FastRNN and FastGRNN against loops of their formulas, and matrices of low rank."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.nn import FastGRNN, FastRNN, orthogonal_
from tests.nn.gradients import INPUTS, UNITS, assert_follows, assert_gradcheck

RANKS = [{}, {"rank_ih": 1, "rank_hh": 2}]
FUNCTIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


def weights(layer):
    parameters = dict(layer.named_parameters())
    return [
        parameters[name]
        if name in parameters
        else parameters[f"{name}_left"].mm(parameters[f"{name}_right"])
        for name in ("weight_ih", "weight_hh")
    ]


def fast_rnn(layer, x, h):
    w, u = weights(layer)
    new = FUNCTIONS[layer.nonlinearity](x @ w.T + h @ u.T + layer.bias)
    return layer.alpha.sigmoid() * new + layer.beta.sigmoid() * h


def fast_grnn(layer, x, h):
    w, u = weights(layer)
    z = torch.sigmoid(x @ w.T + h @ u.T + layer.bias_gate)
    new = torch.tanh(x @ w.T + h @ u.T + layer.bias_update)
    return (layer.zeta.sigmoid() * (1 - z) + layer.nu.sigmoid()) * new + z * h


def test_numbers_and_biases_start_as_in_the_authors_code():
    slow, gated = FastRNN(INPUTS, 400), FastGRNN(INPUTS, 400)
    assert (slow.alpha.item(), slow.beta.item()) == (-3, 3)
    assert (gated.zeta.item(), gated.nu.item()) == (1, -4)
    assert not slow.bias.any()
    assert (gated.bias_gate == 1).all() and (gated.bias_update == 1).all()
    for layer in (slow, gated):
        for weight in weights(layer):
            assert 0.045 < weight.max() <= 1 / 20
            assert -1 / 20 <= weight.min() < -0.045


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("nonlinearity", FUNCTIONS)
def test_a_fast_rnn_is_the_loop(nonlinearity, ranks):
    torch.manual_seed(0)
    assert_follows(FastRNN(INPUTS, UNITS, nonlinearity=nonlinearity, **ranks), fast_rnn)


@pytest.mark.parametrize("ranks", RANKS)
def test_a_fast_grnn_is_the_loop(ranks):
    torch.manual_seed(0)
    assert_follows(FastGRNN(INPUTS, UNITS, **ranks), fast_grnn)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("layer", [FastRNN, FastGRNN])
def test_gradients_are_those_of_finite_differences(layer, ranks):
    torch.manual_seed(0)
    assert_gradcheck(layer(INPUTS, UNITS, **ranks))


@pytest.mark.parametrize("layer", [FastRNN, FastGRNN])
def test_low_rank_keeps_the_rank_and_the_variance(layer):
    torch.manual_seed(0)
    _, whole = weights(layer(2, 200))
    _, thin = weights(layer(2, 200, rank_hh=10))
    assert torch.linalg.matrix_rank(thin) == 10
    # Of 40 000 entries; those of a product depend on each other.
    assert thin.std().item() == pytest.approx(whole.std().item(), rel=0.1)


def test_a_rank_may_be_that_of_a_whole_matrix():
    output, _ = FastRNN(2, 3, rank_ih=2, rank_hh=3)(torch.zeros(4, 1, 2))
    assert output.shape == (4, 1, 3)


def test_a_low_rank_recurrence_can_be_made_orthogonal():
    layer = FastRNN(2, 6, rank_hh=3)
    orthogonal_(layer, gain=0.5)
    _, u = weights(layer)
    expected = torch.tensor([0.5, 0.5, 0.5, 0.0, 0.0, 0.0])
    torch.testing.assert_close(torch.linalg.svdvals(u.detach()), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("layer", [FastRNN, FastGRNN])
def test_batch_first_turns_the_layout_and_nothing_else(layer):
    one = layer(INPUTS, UNITS)
    other = layer(INPUTS, UNITS, batch_first=True)
    assert repr(one).endswith(f"({INPUTS}, {UNITS})")
    assert repr(other).endswith(f"({INPUTS}, {UNITS}, batch_first=True)")
    other.load_state_dict(one.state_dict())
    x = torch.randn(5, 3, INPUTS)
    output, last = one(x)
    turned, same = other(x.transpose(0, 1))
    torch.testing.assert_close(turned.transpose(0, 1), output)
    torch.testing.assert_close(same, last)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FastRNN(2, 3, nonlinearity="x"), ValueError, "`nonlinearity` must be one of"),
        (lambda: FastRNN(2, 3, rank_hh=4), ValueError, "`rank_hh` must be at most 3"),
        (lambda: FastGRNN(2, 3, rank_ih=3), ValueError, "`rank_ih` must be at most 2"),
        (lambda: FastGRNN(2, 3, rank_hh=0), ValueError, "`rank_hh` must be at least 1, got 0"),
        (lambda: FastGRNN(2, 3, rank_hh=1.0), TypeError, "`rank_hh` must be an int, got 1.0"),
        (lambda: FastGRNN(2, -3), ValueError, "`hidden_size` must be at least 1, got -3"),
    ],
)
def test_bad_settings_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
