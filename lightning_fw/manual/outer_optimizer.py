"""The one outer optimizer that the direction is handed to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.optim import LBFGS, SGD, Optimizer

# Far from 1 on a logarithmic scale, as rates for gradients are.
_SMALLEST_RATE = 0.1


def single_optimizer(configured: object) -> Optimizer:
    """The optimizer in what ``configure_optimizers`` returned, in any form Lightning takes.

    Raises:
        ValueError: If there is not exactly one optimizer.
        TypeError: If it evaluates a closure itself, as LBFGS does.
    """
    found = _optimizers(configured)
    if len(found) != 1:
        names = ", ".join(type(optimizer).__name__ for optimizer in found)
        names = names or f"{configured!r:.60}, which holds none"
        raise ValueError(
            f"`configure_optimizers` must return one outer optimizer, got {len(found)}: {names}. "
            "Give one optimizer param groups instead, or delete configure_optimizers to get "
            "InnerLoop.outer's."
        )
    if isinstance(found[0], LBFGS):
        raise TypeError(
            "`configure_optimizers` must return an optimizer that steps along one direction, got "
            "LBFGS, which evaluates the loss itself. Return SGD or Adam."
        )
    return found[0]


def warn_of_small_steps(optimizer: Optimizer) -> None:
    """Warn of an optimizer that does not go where ``direction="displacement"`` leads.

    Args:
        optimizer: The outer optimizer. SGD with a learning rate of about 1 lands there.
    """
    if any("lr" not in group for group in optimizer.param_groups):
        return
    # A scheduler starts from initial_lr, or, as OneCycleLR, climbs to max_lr.
    rates = [
        group.get("max_lr", group.get("initial_lr", group["lr"]))
        for group in optimizer.param_groups
    ]
    if isinstance(optimizer, SGD) and min(rates) >= _SMALLEST_RATE:
        return
    rank_zero_warn(
        f"`configure_optimizers` gave {type(optimizer).__name__} with lr {min(rates):g} for "
        'direction="displacement", which is a whole step and wants SGD(lr=1). Return '
        'self.configure_frank_wolfe().outer(self.parameters()), or pass direction="unit".'
    )


def _optimizers(configured: Any) -> list[Optimizer]:
    if isinstance(configured, Mapping):
        return _optimizers(configured.get("optimizer"))
    if isinstance(configured, list | tuple):
        return [optimizer for entry in configured for optimizer in _optimizers(entry)]
    return [configured] if isinstance(configured, Optimizer) else []
