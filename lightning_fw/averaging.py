"""An average of the anchors, which forgets the early ones: weights to validate, save and keep."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from lightning_fw.checks import require_number


class PolynomialAveraging:
    """The weights of :class:`AnchorAveraging`, for either namespace's ``WeightAveraging``."""

    def __init__(self, power: float = 16.0, **settings: Any) -> None:
        require_number("power", power)
        if not 0 <= power < inf:
            raise ValueError(
                f"`power` must be finite and >= 0, got {power}. Pass 0 for the mean of all anchors."
            )
        self.power = power
        average = partial(average_, power=power)
        super().__init__(multi_avg_fn=average, **settings)  # type: ignore[call-arg]


class AnchorAveraging(PolynomialAveraging, WeightAveraging):
    """Averages the anchors of all windows, late ones more.

    The t-th has a weight that grows like t^η::

        x_t = (1 − c_t) x_{t−1} + c_t ω_t,  c_t = (η + 1) / (t + η)

    so that about the last t / (η + 1) anchors count, however long training goes on: there is no
    length of a run to know. Noise in single batches moves the anchors; their average it hardly
    moves, and the radius need not shrink for it.

    It is Lightning's ``WeightAveraging`` with these weights: validation, checkpoints and the module
    after training get the average, training goes on from the anchor. Also averages the steps of a
    module without the mixin.

    Source: Shamir, Zhang (2013), arXiv:1212.1824, polynomial-decay averaging.

    Args:
        power: η ≥ 0; 0: the mean of all anchors.
        **settings: ``WeightAveraging``'s ``device`` and ``use_buffers``.

    Raises:
        TypeError: If ``power`` is not a number.
        ValueError: If ``power`` is negative or not finite.

    Example:
        >>> import lightning as L
        >>> trainer = L.Trainer(callbacks=[AnchorAveraging()], accelerator="cpu", logger=False)
        >>> isinstance(trainer.callbacks[0], AnchorAveraging)
        True
    """


@torch.no_grad()
def average_(
    averages: list[Tensor], latest: list[Tensor], updates: Tensor, *, power: float
) -> None:
    """Move averages of so many anchors toward the latest, in place; all are of one dtype."""
    if not averages[0].is_floating_point():  # counters, such as batch norm's
        torch._foreach_copy_(averages, latest)
        return
    torch._foreach_lerp_(averages, latest, (power + 1) / (float(updates) + 1 + power))
