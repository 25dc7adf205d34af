"""An average of the anchors, which forgets the early ones: weights to validate, save and keep."""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from lightning_fw.checks import require_number
from lightning_fw.foreach import working_dtype


class PolynomialAveraging:
    """The weights of :class:`AnchorAveraging`, for either namespace's ``WeightAveraging``."""

    _average_model: AveragedModel | None

    def __init__(
        self,
        *,
        power: float = 16.0,
        device: torch.device | str | int | None = None,
        use_buffers: bool = True,
    ) -> None:
        require_number("power", power)
        if not 0 <= power < inf:
            raise ValueError(
                f"`power` must be finite and >= 0, got {power}. Pass 0 for the mean of all anchors."
            )
        self.power = power
        super().__init__(  # type: ignore[call-arg]
            device=device, use_buffers=use_buffers, multi_avg_fn=partial(average_, power=power)
        )

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Refuse weights in half precision, before any are trained."""
        has_halves = any(
            p.requires_grad and p.dtype != working_dtype(p.dtype) for p in pl_module.parameters()
        )
        if stage == "fit" and (has_halves or trainer.precision.endswith("16-true")):
            raise ValueError(
                "`precision` must leave weights in float32 with AnchorAveraging, got "
                f"{trainer.precision} and weights in half precision: an average moves by less than "
                "they are rounded by. Pass bf16-mixed or 16-mixed."
            )
        super().setup(trainer, pl_module, stage)  # type: ignore[misc]

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Put average and anchor back where training goes on; elsewhere the file's weights count.

        After a fit Lightning's would put the anchor into a test, too (Lightning 2.6.6).
        """
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)  # type: ignore[misc]
        elif self._average_model is not None:
            # Validation swaps it in, whatever the module has loaded.
            self._average_model.module.load_state_dict(checkpoint["state_dict"], strict=False)


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
        device: Where the average lives; None: where the module does.
        use_buffers: Whether to average buffers too.

    Raises:
        TypeError: If ``power`` is not a number.
        ValueError: If ``power`` is negative or not finite; before training, if weights are in half
            precision.

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
