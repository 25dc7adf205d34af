"""Weights kept in an interval, whatever moves them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from typing_extensions import override


def bounded(weights: Tensor, bound: float) -> Tensor:
    """clip(w, −bound, bound), with the gradient of a projected descent.

    A gradient reaches a weight at or outside the bound only where a step against it leads back
    inside. :func:`torch.clamp` has no gradient outside, so that a weight which one step carried
    there would stay for good; a parametrization such as bound · tanh(w) has next to none near the
    bound, which is where the longest memory is. Clipping the parameter itself after each step, as
    the authors of IndRNN do, would change weights that an optimizer, a Frank-Wolfe window or an
    average of weights believes to know.

    Args:
        weights: Any shape.
        bound: > 0.

    Returns:
        The clipped weights; they can be differentiated once.

    Example:
        >>> w = torch.tensor([-2.0, 0.5, 2.0], requires_grad=True)
        >>> clipped = bounded(w, 1.0)
        >>> clipped.tolist()
        [-1.0, 0.5, 1.0]
        >>> clipped.sum().backward()  # descent makes all of them smaller
        >>> w.grad.tolist()
        [0.0, 1.0, 1.0]
    """
    clipped: Tensor = _Bounded.apply(weights, bound)  # type: ignore[no-untyped-call]
    return clipped


class _Bounded(torch.autograd.Function):
    @staticmethod
    @override
    def forward(weights: Tensor, bound: float) -> Tensor:
        return weights.clamp(-bound, bound)

    @staticmethod
    @override
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        weights, ctx.bound = inputs
        ctx.save_for_backward(weights)

    @staticmethod
    @once_differentiable
    @override
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        outwards = (weights.abs() >= ctx.bound) & (weights * gradient < 0)
        return gradient.masked_fill(outwards, 0), None
