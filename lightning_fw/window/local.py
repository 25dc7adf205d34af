"""Windows that ranks run apart, and the one message that joins them at a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_fw.tensors.scalars import Scalar
from lightning_fw.window.displacement import Displacement

# Keeps 0 / 0 at 0 where no rank took a step.
_TINY = torch.finfo(torch.float32).tiny


class Joined(NamedTuple):
    """What ranks have in common when their windows close: all, with ``sync="step"``.

    Attributes:
        slopes: Those of SlopeRatio, shape (2, tensors); None without it.
        agreement: ‖mean d_K‖₂ / mean ‖d_K‖₂, NaN with ``sync="step"``.
    """

    slopes: Tensor | None
    agreement: Scalar = nan


def join(
    displacement: Displacement,
    slopes: Tensor | None,
    mean: Callable[[Tensor], Tensor],
    *,
    ended: bool,
) -> Joined:
    """d_K ← the mean of d_K over the ranks that took a step, in one message.

    A mean of points of a ball lies in it. A parameter that moved on some ranks alone counts as
    standing still on the others; the slopes of SlopeRatio travel along, and a rank without any
    counts for nothing in their mean.

    Args:
        displacement: This rank's, changed in place.
        slopes: This rank's of SlopeRatio, shape (2, tensors); None without it.
        mean: Averages a tensor over ranks; called once.
        ended: Whether this is the epoch's last window here.

    Raises:
        ValueError: On all ranks, if ``ended`` is true on some alone.
    """
    tensors = displacement.unfactored()
    head = [displacement.k > 0, displacement.length(), ended, *displacement.moved]
    known = _known(slopes)
    sizes = [tensor.numel() for tensor in (*known, *tensors)]
    message = mean(_flat(head, [*known, *tensors]))
    active, length, at_end, *moved = message[: len(head)].tolist()
    _require_even(at_end)
    active = max(active, _TINY)
    rest = torch.split(message[len(head) :], sizes)
    for tensor, averaged in zip(tensors, rest[len(known) :], strict=True):
        tensor.copy_(averaged.view_as(tensor) / active)
    displacement.moved = [value > 0 and active > _TINY for value in moved]
    # Where no rank moved there is nothing to agree on, and a mean over windows leaves NaN out.
    agreement = displacement.length() / (length / active) if length > 0 else nan
    if slopes is not None:
        # Where no rank has any, 0 / 0 is the NaN that says so.
        slopes = (rest[1].view_as(slopes) / rest[0].unsqueeze(1)).to(slopes.dtype)
    return Joined(slopes, agreement)


def _known(slopes: Tensor | None) -> list[Tensor]:
    """Whether there are slopes at either end, shape (2,), and these, 0 where there are none."""
    if slopes is None:
        return []
    known = slopes.sum(dim=1).isfinite()
    return [known.to(slopes.dtype), slopes.where(known.unsqueeze(1), 0.0)]


def _flat(head: Sequence[Scalar], tensors: Sequence[Tensor]) -> Tensor:
    """Scalars and tensors in one vector of the widest dtype among the tensors."""
    first = tensors[0]
    numbers = [torch.as_tensor(n, device=first.device).to(first.dtype).reshape(1) for n in head]
    return torch.cat([*numbers, *(tensor.reshape(-1) for tensor in tensors)])


def _require_even(at_end: float) -> None:
    """Raise if some ranks, and not all, have come to the end of their epoch."""
    if 0 < at_end < 1:
        raise ValueError(
            "`train_dataloaders` must give every rank as many batches, got an epoch that ended on "
            f"{at_end:.0%} of the ranks a window or more before the others'. Pass "
            "Trainer(limit_train_batches=...), or give each rank's loader as much."
        )
