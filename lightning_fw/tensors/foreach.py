"""Arithmetic on lists of tensors, reduced in float32 under half precision.

Of tensors that ranks hold in parts each works on its own, and numbers are of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeVar, cast

import torch
from torch import Tensor

from lightning_fw.tensors.scalars import Scalar, multiples, scalar, total
from lightning_fw.tensors.shards import any_sharded, over_ranks, parts

T = TypeVar("T")

_HALF = frozenset((torch.float16, torch.bfloat16))

# torch adds float32 squares one by one on a CPU, and is 0.5 % off over 3e7 equal entries, and a
# product of two such tensors 2 %. Longer ones than this are reduced piece by piece.
_LONG = 2**16
_ROW = 2**12

# Entries of long tensors that a function is taken of at once: a cache holds them, and the memory
# for them is at hand, where that for a whole tensor takes the system four times the arithmetic.
_PIECE = 2**18


@dataclass(frozen=True)
class Entrywise(Sequence[Tensor]):
    """A function of every entry of tensors, taken when it is asked for.

    Attributes:
        function: From a tensor to one of its shape.
        tensors: What it is taken of.
    """

    function: Callable[[Tensor], Tensor]
    tensors: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, index: int) -> Tensor:  # type: ignore[override]
        return self.function(self.tensors[index])


def working_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype to accumulate in: float32 for half precision, else ``dtype``."""
    return torch.float32 if dtype in _HALF else dtype


def tensor_norms(tensors: Sequence[Tensor], order: float = 2.0) -> list[Tensor]:
    """The l1, l2 or l∞ norm of each tensor, as 0-dimensional tensors."""
    if any_sharded(tensors):
        return _joined_norms(_norms(parts(tensors), order), tensors, order)
    return _norms(tensors, order)


def power_sums(tensors: Sequence[Tensor], order: float) -> list[Tensor]:
    """Σ x^order over the entries of each tensor, none of them below 0."""
    sums = [part.pow(order).sum() for part in parts(tensors)]
    return over_ranks(sums, tensors, "sum") if any_sharded(tensors) else sums


def _joined_norms(norms: list[Tensor], tensors: Sequence[Tensor], order: float) -> list[Tensor]:
    """Norms of tensors, from those of this rank's parts."""
    if order == math.inf:
        return over_ranks(norms, tensors, "max")
    if order == 1:
        return over_ranks(norms, tensors, "sum")
    # Squares of norms of 1e-25 or 1e25 leave the range of float32.
    squares = over_ranks([norm.double().square() for norm in norms], tensors, "sum")
    return [square.sqrt().to(norm.dtype) for square, norm in zip(squares, norms, strict=True)]


def _norms(tensors: Sequence[Tensor], order: float) -> list[Tensor]:
    if order == 1:
        return [_l1_norm(tensor) for tensor in tensors]
    if order == math.inf:
        return [_peak(tensor) for tensor in tensors]
    are_long = max(map(torch.numel, tensors), default=0) > _LONG and tensors[0].is_cpu
    if are_long or not _HALF.isdisjoint([tensor.dtype for tensor in tensors]):
        return [_l2_norm(tensor) for tensor in tensors]
    return list(torch._foreach_norm(list(tensors))) if tensors else []


def _l1_norm(tensor: Tensor) -> Tensor:
    dtype = working_dtype(tensor.dtype)
    sums = [piece.abs().sum(dtype=dtype) for piece in _pieces(tensor)]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum()


def _peak(tensor: Tensor) -> Tensor:
    dtype = working_dtype(tensor.dtype)
    if not tensor.numel():
        # A rank's part may be empty.
        return tensor.new_zeros((), dtype=dtype)
    peaks = [piece.abs().amax().to(dtype) for piece in _pieces(tensor)]
    return peaks[0] if len(peaks) == 1 else torch.stack(peaks).amax()


def _pieces(tensor: Tensor) -> Sequence[Tensor]:
    """A long tensor's, so that what is made of one fits a cache."""
    if not _is_long(tensor):
        return [tensor]
    pieces: Sequence[Tensor] = torch.split(tensor.reshape(-1), _PIECE)
    return pieces


def _is_long(tensor: Tensor) -> bool:
    return tensor.numel() > _LONG and tensor.device.type == "cpu"


def _l2_norm(tensor: Tensor) -> Tensor:
    norm: Callable[..., Tensor] = partial(
        torch.linalg.vector_norm, dtype=working_dtype(tensor.dtype)
    )
    if not _is_long(tensor):
        return norm(tensor)
    entries = tensor.reshape(-1)
    whole = entries.numel() - entries.numel() % _ROW
    rows = norm(entries[:whole].view(-1, _ROW), dim=1)
    return norm(torch.cat([rows, norm(entries[whole:]).view(1)]))


def pick(items: list[T], indices: Sequence[int]) -> list[T]:
    """The items at distinct increasing indices: the list itself where that is all of them."""
    return items if len(indices) == len(items) else [items[index] for index in indices]


def inner(left: Sequence[Tensor], right: Sequence[Tensor]) -> Scalar:
    """⟨left, right⟩ summed over all tensors."""
    return total(inners(left, right))


def inners(left: Sequence[Tensor], right: Sequence[Tensor]) -> list[Scalar]:
    """⟨left_i, right_i⟩ of each pair of tensors."""
    if any_sharded(left):
        dots = [_dot(x, y) for x, y in zip(parts(left), parts(right), strict=True)]
        return [scalar(dot) for dot in over_ranks(dots, left, "sum")]
    return [scalar(_dot(x, y)) for x, y in zip(left, right, strict=True)]


def _dot(x: Tensor, y: Tensor) -> Tensor:
    dtype = torch.promote_types(working_dtype(x.dtype), working_dtype(y.dtype))
    x, y = (tensor.reshape(-1).to(dtype) for tensor in (x, y))
    if not _is_long(x):
        return torch.dot(x, y)
    pairs = zip(torch.split(x, _LONG), torch.split(y, _LONG), strict=True)
    return torch.stack([torch.dot(*pair) for pair in pairs]).sum()


def add_scaled_(
    targets: Sequence[Tensor], tensors: Sequence[Tensor], weights: Sequence[Scalar]
) -> None:
    """targets_i += weights_i · tensors_i, in place and without temporaries."""
    if type(tensors) is Entrywise:
        if any(map(_is_long, targets)) and not any_sharded(targets):
            return _add_in_pieces_(targets, tensors, weights)
        tensors = list(tensors)
    if any_sharded(targets):
        targets, tensors = parts(targets), parts(tensors)
    if Tensor in map(type, weights):
        factors = [
            # new_full and not new_tensor, which copies from the host and waits for it.
            weight if isinstance(weight, Tensor) else target.new_full((), weight)
            for weight, target in zip(weights, targets, strict=True)
        ]
        torch._foreach_addcmul_(list(targets), list(tensors), factors)
    elif targets:
        # One call for all tensors: a loop over `add_` costs a fifth more on an LSTM-128.
        ones = [_one(targets[0].device)] * len(targets)
        numbers = cast(list[float], list(weights))
        torch._foreach_addcmul_(list(targets), list(tensors), ones, numbers)


def fill_scaled_(
    targets: Sequence[Tensor], tensors: Sequence[Tensor], weights: Sequence[Scalar]
) -> None:
    """targets_i ← weights_i · tensors_i, in place, whatever the targets hold."""
    if not _are_written_at_once(targets, tensors, weights):
        zero_(targets)
        return add_scaled_(targets, tensors, weights)
    for target, tensor, weight in zip(targets, tensors, weights, strict=True):
        torch.mul(tensor, weight, out=target)


def _are_written_at_once(
    targets: Sequence[Tensor], tensors: Sequence[Tensor], weights: Sequence[Scalar]
) -> bool:
    """Long ones, where a pass over memory costs more than a call for each."""
    return (
        any(map(_is_long, targets))
        and type(tensors) is not Entrywise
        and Tensor not in map(type, weights)
        and not any_sharded(targets)
        and [target.dtype for target in targets] == [tensor.dtype for tensor in tensors]
    )


def _add_in_pieces_(
    targets: Sequence[Tensor], tensors: Entrywise, weights: Sequence[Scalar]
) -> None:
    for target, tensor, weight in zip(targets, tensors.tensors, weights, strict=True):
        pairs: Iterable[tuple[Tensor, Tensor]] = [(target, tensor)]
        if target.is_contiguous():
            pairs = zip(_pieces(target), _pieces(tensor), strict=True)
        for piece, of in pairs:
            piece.add_(tensors.function(of), alpha=float(weight))


@lru_cache
def _one(device: torch.device) -> Tensor:
    return torch.ones((), device=device)


def scale_(tensors: Sequence[Tensor], factor: Scalar) -> None:
    """tensors_i *= factor, in place."""
    if tensors:
        torch._foreach_mul_(list(parts(tensors)), factor)


def blend_(
    targets: Sequence[Tensor], tensors: Sequence[Tensor], scales: Sequence[Scalar], weight: Scalar
) -> None:
    """targets_i ← (1 − weight) targets_i + weight · scales_i · tensors_i, in place."""
    scale_(targets, 1 - weight)
    add_scaled_(targets, tensors, multiples(scales, weight))


def lerp(starts: Sequence[Tensor], ends: Sequence[Tensor], share: float) -> list[Tensor]:
    """(1 − share) starts_i + share · ends_i, of the dtype of ends_i."""
    if any_sharded(ends):
        found = [start.to(end.dtype, copy=True) for start, end in zip(starts, ends, strict=True)]
        torch._foreach_lerp_(list(parts(found)), list(parts(ends)), share)
        return found
    starts = [start.to(end.dtype) for start, end in zip(starts, ends, strict=True)]
    return list(torch._foreach_lerp(starts, list(ends), share))


def mask_(tensors: Sequence[Tensor], bad: Tensor) -> list[Tensor]:
    """Zeros wherever ``bad`` is true, a NaN included, in place."""
    for part in parts(tensors):
        part.masked_fill_(bad, 0)
    return list(tensors)


def copy_(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """targets_i ← sources_i, in place."""
    if any_sharded(targets):
        targets, sources = parts(targets), parts(sources)
    torch._foreach_copy_(list(targets), list(sources))


def zero_(tensors: Sequence[Tensor]) -> None:
    """tensors_i ← 0, in place."""
    torch._foreach_zero_(list(parts(tensors)))
