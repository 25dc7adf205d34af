"""Scalars of the inner loop: Python floats where reading a tensor is free, tensors elsewhere.

Reading a number off an accelerator stalls its queue; reading it off the host costs a microsecond
less than one more tensor operation. So the window's few scalars (norms, step sizes, gaps) are
floats when the parameters live on the CPU and 0-dimensional tensors on their device otherwise.
Arithmetic on them reads the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

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
    """Sum of scalars: one kernel on an accelerator, where those of a user's ball may be of both."""
    if {*map(type, values)} == {Tensor}:
        return torch.stack(list(values)).sum()  # type: ignore[arg-type]
    return sum(values)


def products(left: Sequence[Scalar], right: Sequence[Scalar]) -> list[Scalar]:
    """left_i · right_i: one kernel for those of a kind, where a loop would launch one for each."""
    if Tensor not in {*map(type, left), *map(type, right)}:
        return [x * y for x, y in zip(left, right, strict=True)]
    found: list[Any] = list(zip(left, right, strict=True))
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for index, (x, y) in enumerate(found):
        if isinstance(y, float) and y == 1:
            found[index] = x
        elif isinstance(x, float) and x == 1:
            found[index] = y
        else:
            kinds.setdefault((isinstance(x, Tensor), isinstance(y, Tensor)), []).append(index)
    for (tensor_first, tensor_second), indices in kinds.items():
        pairs = [found[index] for index in indices]
        if tensor_first or tensor_second:
            firsts, seconds = zip(*pairs, strict=True)
            if not tensor_first:
                firsts, seconds = seconds, firsts
            answers = list(torch._foreach_mul(firsts, seconds))
        else:
            answers = [x * y for x, y in pairs]
        for index, answer in zip(indices, answers, strict=True):
            found[index] = answer
    return found


def multiples(values: Sequence[Scalar], factor: Scalar) -> list[Scalar]:
    """values_i · factor."""
    return products(values, [factor] * len(values))


def negative_inverses(values: Sequence[Scalar], floors: Sequence[float]) -> list[Scalar]:
    """−1 / max(value_i, floor_i)."""
    if values and isinstance(values[0], Tensor):
        tensors = cast(list[Tensor], list(values))
        inverses = torch._foreach_reciprocal(torch._foreach_clamp_min(tensors, floors))
        return list(torch._foreach_neg(inverses))
    numbers = cast(Sequence[float], values)
    # Not at_least, whose calls take longer than the divisions.
    return [
        -1 / (floor if value < floor else value)
        for value, floor in zip(numbers, floors, strict=True)
    ]


def masked(values: Sequence[Scalar], bad: Tensor) -> Sequence[Scalar]:
    """Zeros wherever ``bad`` is true, a NaN included."""
    return torch.stack(list(values)).masked_fill(bad, 0).unbind()  # type: ignore[arg-type]


def hypotenuse(values: Sequence[Scalar]) -> Scalar:
    """The l2 norm of scalars, whose squares may over- or underflow on the host."""
    if values and isinstance(values[0], Tensor):
        norm: Tensor = torch.linalg.vector_norm(torch.stack(list(values)))  # type: ignore[arg-type]
        return norm
    return math.hypot(*values)


def is_finite(value: Scalar) -> bool | Tensor:
    """Whether ``value`` is finite: a bool on the host, a boolean tensor elsewhere."""
    # Less than what isfinite launches.
    return value.abs() < math.inf if isinstance(value, Tensor) else math.isfinite(value)


class Gathered(NamedTuple):
    """Scalars, those of a device in one tensor, so that reading them waits for it once.

    Attributes:
        values: All of them.
        of_device: Those that are tensors, shape (n,).
    """

    values: Sequence[Scalar]
    of_device: Tensor | None

    def read(self) -> list[float]:
        """The scalars as floats."""
        read = iter(() if self.of_device is None else self.of_device.tolist())
        return [next(read) if isinstance(value, Tensor) else float(value) for value in self.values]


def gather(values: Sequence[Scalar]) -> Gathered:
    """Scalars, ready to be read."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return Gathered(values, None)
    # Not float64 for all: MPS has none.
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    return Gathered(values, torch.stack([tensor.to(widest) for tensor in tensors]))
