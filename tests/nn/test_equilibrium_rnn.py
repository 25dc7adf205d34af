"""iRNN: its Euler steps, and what holds at the equilibrium they go to."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.nn import EquilibriumRNN
from tests.nn.gradients import INPUTS, UNITS, assert_follows, assert_gradcheck


def step(layer, x, h):
    g = torch.zeros_like(h)
    for eta in layer.eta:
        drive = torch.tanh((g + h) @ layer.weight_hh.T + x @ layer.weight_ih.T + layer.bias)
        g = g + eta * (drive - layer.alpha * (g + h))
    return g


@pytest.mark.parametrize("steps", [1, 3])
def test_states_and_gradients_are_those_of_the_loop(steps):
    torch.manual_seed(0)
    layer = EquilibriumRNN(INPUTS, UNITS, steps=steps, alpha=1.3)
    with torch.no_grad():
        layer.eta.uniform_(0.1, 0.9)
        layer.bias.uniform_(-1, 1)
    assert_follows(layer, step)


def test_it_starts_with_the_steps_that_are_asked_for():
    layer = EquilibriumRNN(INPUTS, UNITS, steps=3, step_size=0.2, alpha=1.3)
    torch.testing.assert_close(layer.eta.detach(), torch.full((3,), 0.2))
    torch.testing.assert_close(layer.alpha.detach(), torch.tensor([1.3]))
    assert not layer.bias.any()


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    assert_gradcheck(EquilibriumRNN(INPUTS, UNITS, steps=3))


def contraction():
    """A layer whose Euler steps arrive: ‖U‖ < α."""
    torch.manual_seed(0)
    layer = EquilibriumRNN(INPUTS, UNITS, steps=200, alpha=1.3).double()
    with torch.no_grad():
        layer.weight_hh.mul_(0.9 / torch.linalg.matrix_norm(layer.weight_hh, 2))
    return layer


def test_many_steps_arrive_at_the_equilibrium():
    layer = contraction()
    x = torch.randn(1, 3, INPUTS, dtype=torch.float64)
    hx = torch.rand(1, 3, UNITS, dtype=torch.float64)
    total = layer(x, hx)[0][0] + hx[0]
    drive = torch.tanh(total @ layer.weight_hh.T + x[0] @ layer.weight_ih.T + layer.bias)
    torch.testing.assert_close(drive, layer.alpha * total)


@pytest.mark.parametrize(("time", "sign"), [(1, -1), (2, 1), (5, -1)])
def test_at_the_equilibrium_gradients_neither_vanish_nor_explode(time, sign):
    layer = contraction()
    x = torch.randn(time, 1, INPUTS, dtype=torch.float64)

    def last(h):
        return layer(x, h.reshape(1, 1, UNITS))[1].flatten()

    jacobian = torch.autograd.functional.jacobian(last, torch.rand(UNITS, dtype=torch.float64))
    expected = sign * torch.eye(UNITS, dtype=torch.float64)
    torch.testing.assert_close(jacobian, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"steps": 0}, ValueError, "`steps` must be at least 1, got 0"),
        ({"steps": 1.0}, TypeError, "`steps` must be an int, got 1.0"),
        ({"step_size": 0.0}, ValueError, "`step_size` must be positive, got 0.0"),
        ({"alpha": -1.0}, ValueError, "`alpha` must be positive, got -1.0"),
    ],
)
def test_bad_settings_are_named(settings, error, message):
    with pytest.raises(error, match=message):
        EquilibriumRNN(INPUTS, UNITS, **settings)


def test_both_matrices_are_drawn_as_torch_draws_them():
    layer = EquilibriumRNN(INPUTS, 400)
    for weight in (layer.weight_ih, layer.weight_hh):
        assert 0.045 < weight.max() <= 1 / 20
        assert -1 / 20 <= weight.min() < -0.045
