"""A module that notes the gradients that its hooks see."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tests.manual.twins import Parts


class SeesGradients(Parts):
    """Notes ``p.grad`` where users look at it."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.gradients: list[list[Tensor]] = []
        self.directions: list[list[Tensor]] = []
        self.previous: list[list[Tensor | None]] = []

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.previous.append([None if p.grad is None else p.grad.clone() for p in _of(optimizer)])

    def on_after_backward(self) -> None:
        self.gradients.append([p.grad.clone() for p in self.parameters()])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.directions.append([p.grad.clone() for p in _of(optimizer)])


def _of(optimizer: Any) -> list[Any]:
    return [p for group in optimizer.param_groups for p in group["params"]]
