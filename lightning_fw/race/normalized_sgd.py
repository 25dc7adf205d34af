"""SGD with momentum along a direction of length one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override


class NormalizedSGD(Optimizer):
    """m ← β m + (1 − β) g, then w ← w − lr · m / ‖m‖ over all parameters together.

    Source: Cutkosky, Mehta (2020), "Momentum Improves Normalized SGD", arXiv:2002.03305.

    Args:
        params: Parameters.
        lr: Length of a step.
        momentum: β.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            averages = [self._average(p, group["momentum"]) for p in parameters]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(averages)))
            steps = torch._foreach_div(averages, norm.clamp_min(torch.finfo(norm.dtype).tiny))
            torch._foreach_add_(parameters, steps, alpha=-group["lr"])
        return loss

    def _average(self, parameter: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        average: Tensor = state.setdefault("average", torch.zeros_like(parameter))
        assert parameter.grad is not None
        return average.lerp_(parameter.grad, 1 - momentum)
