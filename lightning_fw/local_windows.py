"""Windows that ranks run apart, and the one message that joins them at a restart."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fw.displacement import Displacement
from lightning_fw.inner_loop import Sync
from lightning_fw.scalars import Scalar

# Keeps 0 / 0 at 0 where no rank took a step.
_TINY = 1.1754943508222875e-38


class Joined(NamedTuple):
    """What ranks have in common when their windows close.

    Attributes:
        slopes: Those of SlopeRatio, shape (2,); None without it.
        agreement: ‖mean d_K‖₂ / mean ‖d_K‖₂, NaN with ``sync="step"``.
    """

    slopes: Tensor | None
    agreement: Scalar = nan


def share(
    sync: Sync,
    displacement: Displacement,
    slopes: Tensor | None,
    mean: Callable[[Tensor], Tensor],
    *,
    ended: bool,
) -> Joined:
    """Average over ranks what they have apart when a window closes.

    Args:
        sync: With ``"step"`` nothing: gradients were averaged, and all that follows from them is
            the same on every rank; with ``"restart"`` slopes and d_K.
        displacement: This rank's.
        slopes: Those of SlopeRatio on this rank, shape (2,); None without it.
        mean: Averages a tensor over ranks; called at most once.
        ended: Whether this is the epoch's last window here.

    Raises:
        ValueError: With ``"restart"``, if it is on some ranks alone.
    """
    if sync == "restart":
        return join(displacement, slopes, mean, ended=ended)
    return Joined(slopes)


def join(
    displacement: Displacement,
    slopes: Tensor | None,
    mean: Callable[[Tensor], Tensor],
    *,
    ended: bool = False,
) -> Joined:
    """d_K ← the mean of d_K over the ranks that took a step, in one message.

    A mean of points of a ball lies in it. A parameter that moved on some ranks alone counts as
    standing still on the others; the slopes of SlopeRatio travel along, and a rank without any
    counts for nothing in their mean.

    Args:
        displacement: This rank's, changed in place.
        slopes: This rank's, shape (2,).
        mean: Averages a tensor over ranks; called once.
        ended: Whether this is the epoch's last window here.

    Raises:
        ValueError: On all ranks, if it is on some alone.
    """
    tensors = displacement.unfactored()
    first = tensors[0]
    stepped = torch.as_tensor(displacement.k > 0, device=first.device)
    head = [stepped, displacement.length(), ended, *displacement.moved]
    dtype = first.dtype
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    numbers = [torch.as_tensor(n, device=first.device).to(dtype).reshape(1) for n in head]
    known = torch.zeros(2, dtype=torch.bool) if slopes is None else slopes.isfinite()
    mine = torch.zeros(2) if slopes is None else slopes.nan_to_num()
    pairs = [pair.to(first.device, dtype) for pair in (mine, known)]
    message = mean(torch.cat([*numbers, *pairs, *(tensor.reshape(-1) for tensor in tensors)]))
    active, length, at_end, *moved = message[: len(head)].tolist()
    _require_even(at_end)
    sums, counts, rest = message[len(head) :].split_with_sizes(
        [2, 2, message.numel() - len(head) - 4]
    )
    active = max(active, _TINY)
    rest = rest / active
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, averaged in zip(tensors, rest.split(sizes), strict=True):
        tensor.copy_(averaged.view_as(tensor))
    displacement.moved = [value > 0 and active > _TINY for value in moved]
    agreement = displacement.length() / max(length / active, _TINY)
    # 0 / 0 where no rank has the slope: NaN, as it was.
    return Joined(None if slopes is None else (sums / counts).to(slopes.dtype), agreement)


def _require_even(at_end: float) -> None:
    """Raise if some ranks, and not all, have come to the end of their epoch."""
    if 0 < at_end < 1:
        raise ValueError(
            "`train_dataloaders` must give every rank as many batches, got an epoch that ended on "
            f"{at_end:.0%} of the ranks a window or more before the others'. Pass "
            "Trainer(limit_train_batches=...), or give each rank's loader as much."
        )
