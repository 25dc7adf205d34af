"""Scalars of the inner loop: Python floats where reading a tensor is free, tensors elsewhere.

Reading a number off an accelerator stalls its queue; reading it off the host costs a microsecond
less than one more tensor operation. So the window's few scalars (norms, step sizes, gaps) are
floats when the parameters live on the CPU and 0-dimensional tensors on their device otherwise.
Arithmetic on them reads the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

Scalar: TypeAlias = float | Tensor


def on_host(device: torch.device) -> bool:
    """Whether reading a number off the device is free."""
    return device.type == "cpu"


def scalar(value: Tensor) -> Scalar:
    """A float when ``value`` lives on the host, ``value`` itself otherwise."""
    return value.item() if on_host(value.device) else value


def scalars(values: Sequence[Tensor]) -> Sequence[Scalar]:
    """:func:`scalar` of tensors that share a device."""
    if values and on_host(values[0].device):
        return [value.item() for value in values]
    return values


def at_least(value: Scalar, floor: float) -> Scalar:
    """max(value, floor), NaN kept."""
    if isinstance(value, Tensor):
        return value.clamp_min(floor)
    return floor if value < floor else value


def at_most(value: Scalar, ceiling: float) -> Scalar:
    """min(value, ceiling), NaN kept."""
    if isinstance(value, Tensor):
        return value.clamp_max(ceiling)
    return min(value, ceiling)


def total(values: Sequence[Scalar]) -> Scalar:
    """Sum of scalars: one kernel on an accelerator."""
    if values and isinstance(values[0], Tensor):
        return torch.stack(list(values)).sum()  # type: ignore[arg-type]
    return sum(values)


def hypotenuse(values: Sequence[Scalar]) -> Scalar:
    """The l2 norm of scalars, whose squares may over- or underflow on the host."""
    if values and isinstance(values[0], Tensor):
        norm: Tensor = torch.linalg.vector_norm(torch.stack(list(values)))  # type: ignore[arg-type]
        return norm
    return math.hypot(*values)


def is_finite(value: Scalar) -> bool | Tensor:
    """Whether ``value`` is finite: a bool on the host, a boolean tensor elsewhere."""
    return value.isfinite() if isinstance(value, Tensor) else math.isfinite(value)


def to_floats(values: Sequence[Scalar]) -> list[float]:
    """Read scalars with at most one host-device synchronization."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return [float(value) for value in values]
    # Not float64 for all: MPS has none.
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    read = iter(torch.stack([tensor.to(widest) for tensor in tensors]).tolist())
    return [next(read) if isinstance(value, Tensor) else float(value) for value in values]
