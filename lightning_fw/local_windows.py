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
        all_ended: Whether this was the last window of the epoch on every rank.
    """

    slopes: Tensor | None
    agreement: Scalar = nan
    all_ended: bool = True


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
    standing still on the others; the slopes of SlopeRatio travel along.

    Args:
        displacement: This rank's, changed in place.
        slopes: This rank's, shape (2,).
        mean: Averages a tensor over ranks; called once.
        ended: Whether this is the epoch's last window here.
    """
    tensors = displacement.unfactored()
    first = tensors[0]
    stepped = torch.as_tensor(displacement.k > 0, device=first.device)
    head = [stepped, displacement.length(), not ended, *displacement.moved]
    dtype = first.dtype
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    numbers = [torch.as_tensor(n, device=first.device).to(dtype).reshape(1) for n in head]
    mine = first.new_zeros(2, dtype=dtype) if slopes is None else slopes.to(dtype)
    message = mean(torch.cat([*numbers, mine, *(tensor.reshape(-1) for tensor in tensors)]))
    active, length, on_the_way, *moved = message[: len(head)].tolist()
    active = max(active, _TINY)
    rest = message[len(head) + 2 :] / active
    sizes = [tensor.numel() for tensor in tensors]
    for tensor, averaged in zip(tensors, rest.split(sizes), strict=True):
        tensor.copy_(averaged.view_as(tensor))
    displacement.moved = [value > 0 and active > _TINY for value in moved]
    agreement = displacement.length() / max(length / active, _TINY)
    if slopes is not None:
        slopes = message[len(head) : len(head) + 2].to(slopes.dtype)
    return Joined(slopes, agreement, all_ended=on_the_way == 0)
