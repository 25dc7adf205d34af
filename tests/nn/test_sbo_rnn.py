"""SBO-RNN: its states descend the objective that autograd knows."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.nn import SBORNN
from lightning_fw.nn.sbo_rnn import fit_gradient
from tests.nn.gradients import INPUTS, STEPS, UNITS, assert_gradcheck

DESCENTS = ["gradient", "heavy-ball", "nesterov"]


def full(layer):
    if layer.rank_hh is None:
        return torch.diag(layer.weight_hh)
    return torch.eye(UNITS, dtype=torch.float64) + layer.weight_hh_left @ layer.weight_hh_right


def objective(layer, h, x):
    features = torch.relu(h @ full(layer) + x @ layer.weight_ih.T + layer.bias)
    return 0.5 * (layer.alpha * h - features).square().sum()


def slope(layer, h, x):
    (found,) = torch.autograd.grad(objective(layer, h, x), h, create_graph=True)
    return found


def loop(layer, x, h):
    eta = layer.eta.sigmoid()
    before, states = h, []
    for row in x:
        if layer.descent == "gradient":
            after = h - eta * slope(layer, h, row)
        elif layer.descent == "heavy-ball":
            after = h - eta * slope(layer, h, row) + layer.mu.sigmoid() * (h - before)
        else:
            y = h + layer.mu.sigmoid() * (h - before)
            after = y - eta * slope(layer, y, row)
        before, h = h, after
        states.append(h)
    return torch.stack(states)


def layer_of(descent, rank, **settings):
    torch.manual_seed(0)
    layer = SBORNN(INPUTS, UNITS, descent=descent, rank_hh=rank, step_size=0.3, **settings).double()
    with torch.no_grad():
        if rank is None:
            layer.weight_hh.uniform_(0.5, 1.5)
        layer.bias.uniform_(-1, 1)  # some units off
    return layer


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("descent", DESCENTS)
def test_states_and_gradients_are_those_of_steps_on_the_objective(descent, rank):
    layer = layer_of(descent, rank)
    x = torch.randn(STEPS, 3, INPUTS, dtype=torch.float64, requires_grad=True)
    hx = torch.rand(1, 3, UNITS, dtype=torch.float64, requires_grad=True)
    output, last = layer(x, hx)
    expected = loop(layer, x, hx[0])
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(last, expected[-1:])
    leaves = [x, hx, *layer.parameters()]
    weights = torch.randn_like(output)
    found = torch.autograd.grad((output * weights).sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum(), leaves)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.any()


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("descent", DESCENTS)
def test_gradients_are_those_of_finite_differences(descent, rank):
    assert_gradcheck(layer_of(descent, rank))


@pytest.mark.parametrize("descent", DESCENTS)
def test_every_parameter_is_trained(descent):
    layer = layer_of(descent, 2)
    names = {"weight_ih", "bias", "weight_hh_left", "weight_hh_right", "alpha", "eta"}
    names |= set() if descent == "gradient" else {"mu"}
    assert {name for name, _ in layer.named_parameters()} == names


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("descent", DESCENTS)
def test_under_one_input_the_state_goes_to_the_minimum(descent, rank):
    layer = layer_of(descent, rank)
    x = torch.randn(1, 3, INPUTS, dtype=torch.float64).expand(400, 3, INPUTS)
    _, last = layer(x)
    features = torch.relu(last[0] @ full(layer) + x[0] @ layer.weight_ih.T + layer.bias)
    torch.testing.assert_close(layer.alpha * last[0], features, atol=1e-6, rtol=0)
    assert features.any()


def test_it_starts_at_the_identity_with_the_step_that_is_asked_for():
    layer = SBORNN(INPUTS, UNITS, descent="nesterov", alpha=1.5, step_size=0.3, momentum=0.7)
    found = torch.cat([layer.alpha, layer.eta.sigmoid(), layer.mu.sigmoid()]).detach()
    torch.testing.assert_close(found, torch.tensor([1.5, 0.3, 0.7]))
    assert (layer.recurrence() == 1).all() and not layer.bias.any()


@pytest.mark.parametrize("rank", [4, 16])
def test_what_is_not_the_identity_starts_with_singular_values_of_about_a_half(rank):
    change = SBORNN(2, 128, rank_hh=rank).recurrence() - torch.eye(128)
    assert (change.square().sum() / rank).item() == pytest.approx(1 / 3, rel=0.2)


def test_the_slope_is_zero_at_the_minimum():
    # α h = h W + z has the solution h = z (α I − W)⁻¹, with all units on for a large z.
    w = 0.1 * torch.rand(UNITS, UNITS, dtype=torch.float64)
    z = 1 + torch.rand(3, UNITS, dtype=torch.float64)
    alpha = torch.tensor([2.0], dtype=torch.float64)
    h = z @ torch.linalg.inv(alpha * torch.eye(UNITS, dtype=torch.float64) - w)
    slope = fit_gradient(h, z, w, alpha)
    torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-12, rtol=0)
    assert fit_gradient(h + 0.1, z, w, alpha).abs().min() > 0.01


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"descent": "x"}, ValueError, "`descent` must be one of .*, got 'x'"),
        ({"rank_hh": 5}, ValueError, "`rank_hh` must be at most 4, got 5"),
        ({"rank_hh": 0}, ValueError, "`rank_hh` must be at least 1, got 0"),
        ({"alpha": 0.0}, ValueError, "`alpha` must be positive, got 0.0"),
        ({"step_size": 1.0}, ValueError, r"`step_size` must be in \(0, 1\), got 1.0"),
        ({"momentum": "x"}, TypeError, "`momentum` must be a number, got 'x'"),
    ],
)
def test_bad_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        SBORNN(INPUTS, UNITS, **settings)


def test_the_input_weights_are_drawn_as_torch_draws_them():
    weight = SBORNN(INPUTS, 400).weight_ih
    assert 0.045 < weight.max() <= 1 / 20
    assert -1 / 20 <= weight.min() < -0.045
