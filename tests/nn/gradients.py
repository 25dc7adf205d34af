"""Checks of a layer against a loop written from its formula, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

# A state before the first step and one step's input to the state after it, both (batch, ·).
Step = Callable[[nn.Module, Tensor, Tensor], Tensor]

STEPS, BATCH, INPUTS, UNITS = 6, 3, 2, 4


def loop(layer: nn.Module, step: Step, x: Tensor, first: Tensor) -> Tensor:
    """The states (time, batch, hidden) of x (time, batch, input)."""
    states = []
    h = first
    for row in x:
        h = step(layer, row, h)
        states.append(h)
    return torch.stack(states)


def assert_follows(layer: nn.Module, step: Step) -> None:
    """Outputs, last states, and the gradients of all inputs and parameters are the loop's."""
    layer = layer.double()
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    hx = torch.rand(1, BATCH, UNITS, dtype=torch.float64, requires_grad=True)
    leaves = [x, hx, *layer.parameters()]
    output, last = layer(x, hx)
    expected = loop(layer, step, x, hx[0])
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(last, expected[-1:])
    weights = torch.randn_like(expected)
    found = torch.autograd.grad((output * weights).sum() + last.square().sum(), leaves)
    wanted = torch.autograd.grad((expected * weights).sum() + expected[-1].square().sum(), leaves)
    for parameter, ours, theirs in zip(leaves, found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.any(), f"a gradient of shape {tuple(parameter.shape)} is zero"


def assert_gradcheck(layer: nn.Module) -> None:
    """Gradients of inputs, first state and parameters agree with finite differences."""
    layer = layer.double()
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64, requires_grad=True)
    hx = torch.rand(1, BATCH, UNITS, dtype=torch.float64, requires_grad=True)
    values = [p.detach().clone().requires_grad_() for p in layer.parameters()]

    def run(x: Tensor, hx: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(names, parameters, strict=True))
        found: tuple[Tensor, ...] = torch.func.functional_call(layer, named, (x, hx))
        return found

    assert torch.autograd.gradcheck(run, (x, hx, *values))
