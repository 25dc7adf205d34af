"""A ReLU recurrence whose units do not mix, without a graph node per step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override

from lightning_fw.tensors.foreach import working_dtype


def relu_recurrence(inputs: Tensor, recurrent: Tensor, first: Tensor) -> Tensor:
    """States of h_t = max(0, z_t + u ⊙ h_{t−1}).

    With δ_t the gradient of the loss before the ReLU, that of step t is
    δ_t = 1[h_t > 0] ⊙ (∂L/∂h_t + u ⊙ δ_{t+1}); then ∂L/∂z_t = δ_t, ∂L/∂u = Σ_t δ_t ⊙ h_{t−1} and
    ∂L/∂h_0 = u ⊙ δ_1.

    A step costs two tensor operations forward and three backward, in place in slices that fit the
    processor's cache; a loop under autograd would keep and allocate a tensor for each of its own.
    A parallel scan over time exists, for maps h ↦ min(d, max(c, a + b h)) compose to such maps; but
    it goes log₂ T times through the memory of all states, which on a CPU takes longer.

    Args:
        inputs: z of shape (time, batch, hidden).
        recurrent: u of shape (hidden,).
        first: h_0 of shape (batch, hidden).

    Returns:
        h_1 … h_T of shape (time, batch, hidden), in the widest dtype of the three. They can be
        differentiated once.

    Example:
        >>> z = torch.tensor([1.0, -3.0, 2.0]).reshape(3, 1, 1)
        >>> relu_recurrence(z, torch.tensor([0.5]), torch.zeros(1, 1)).flatten().tolist()
        [1.0, 0.0, 2.0]
    """
    dtype = torch.promote_types(torch.promote_types(inputs.dtype, recurrent.dtype), first.dtype)
    states: Tensor = _ReluRecurrence.apply(  # type: ignore[no-untyped-call]
        inputs.to(dtype).contiguous(), recurrent.to(dtype), first.to(dtype)
    )
    return states


class _ReluRecurrence(torch.autograd.Function):
    @staticmethod
    @override
    def forward(inputs: Tensor, recurrent: Tensor, first: Tensor) -> Tensor:
        states = torch.empty_like(inputs)
        state = first
        with torch.no_grad():  # torch.export traces this with gradients
            for z, out in zip(inputs.unbind(), states.unbind()):
                state = torch.addcmul(z, recurrent, state, out=out).relu_()
        return states

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _, recurrent, first = inputs
        ctx.save_for_backward(recurrent, first, output)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        recurrent, first, states = ctx.saved_tensors
        deltas = torch.empty_like(states)
        # In half precision a long sum stands still: its terms fall below half its last bit.
        slope = torch.zeros_like(first, dtype=working_dtype(first.dtype))
        delta = torch.zeros_like(first)
        steps = states.unbind()
        before = (first, *steps[:-1])
        for g, state, previous, out in zip(
            reversed(gradient.unbind()),
            reversed(steps),
            reversed(before),
            reversed(deltas.unbind()),
        ):
            torch.addcmul(g, recurrent, delta, out=out)
            # The mask of the ReLU in one operation, without a tensor for the mask.
            delta = torch.ops.aten.threshold_backward.grad_input(out, state, 0, grad_input=out)
            slope.addcmul_(delta, previous)
        return deltas, slope.sum(0).to(recurrent.dtype), recurrent * delta
