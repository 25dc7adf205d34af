"""The gradient scaler of 16-bit precision: gradients come scaled, and so must the direction go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def _scaler(trainer: Any) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)


def unscale_gradients(trainer: Any) -> None:
    """Divide the gradients of one evaluation by the loss scale, and adapt the scale to them.

    A gradient with an infinity or a NaN backs the scale off, as a step of automatic optimization
    with it would.
    """
    scaler, optimizer = _scaler(trainer), trainer.optimizers[0]
    if scaler is None or all(p.grad is None for g in optimizer.param_groups for p in g["params"]):
        return
    scaler.unscale_(optimizer)
    scaler.update()


def scale_direction(trainer: Any, parameters: Sequence[Tensor]) -> None:
    """Multiply the direction by the loss scale, which the optimizer's step divides out again."""
    scaler = _scaler(trainer)
    if scaler is not None:
        directions = [p.grad for p in parameters if p.grad is not None]
        torch._foreach_mul_(directions, scaler.get_scale())
