"""The one outer optimizer that the direction is handed to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.optim import LBFGS, SGD, Optimizer, SparseAdam

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.namespaces import sibling

# Far from a whole step on a logarithmic scale, as rates for gradients are.
_FAR = 10


def outer_of(module: Any) -> Optimizer:
    """``InnerLoop.outer`` of a module's parameters.

    Without those that are frozen where a callback thaws them, which then adds them to it.
    """
    trainer, parameters = module._trainer, list(module.parameters())
    if trainer is not None:
        finetuning = sibling(trainer, "callbacks").BaseFinetuning
        if any(isinstance(callback, finetuning) for callback in trainer.callbacks):
            parameters = [p for p in parameters if p.requires_grad]
    optimizer: Optimizer = module.configure_frank_wolfe().outer(parameters)
    return optimizer


def single_optimizer(configured: object) -> Optimizer:
    """The optimizer in what ``configure_optimizers`` returned, in any form Lightning takes.

    Raises:
        ValueError: If there is not exactly one optimizer, or it maximizes.
        TypeError: If it evaluates the loss itself, as LBFGS and SAM do, or wants sparse gradients.
    """
    found = _optimizers(configured)
    if len(found) != 1:
        names = ", ".join(type(optimizer).__name__ for optimizer in found)
        names = names or f"{configured!r:.60}, which holds none"
        raise ValueError(
            f"`configure_optimizers` must return one outer optimizer, got {len(found)}: {names}. "
            "Give one optimizer param groups instead, or delete configure_optimizers to get "
            "InnerLoop.outer's. Losses that work against each other, as of a GAN, are not for one "
            "window: train them without the mixin."
        )
    _require_to_follow_directions(found[0])
    return found[0]


def _require_to_follow_directions(optimizer: Optimizer) -> None:
    if isinstance(optimizer, SparseAdam):
        raise TypeError(
            "`configure_optimizers` must return an optimizer of dense gradients, as the direction "
            "is, got SparseAdam. Return SGD or Adam."
        )
    if isinstance(optimizer, LBFGS):
        raise TypeError(
            "`configure_optimizers` must return an optimizer that steps along one direction, got "
            "LBFGS, which evaluates the loss itself. Return SGD or Adam."
        )
    if hasattr(optimizer, "first_step") and hasattr(optimizer, "second_step"):
        raise TypeError(
            "`configure_optimizers` must return an optimizer that steps along one direction, got "
            f"{type(optimizer).__name__}, which evaluates the loss once more elsewhere. Return the "
            "optimizer that it is made around."
        )
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise ValueError(
            "`maximize` of the outer optimizer must be False, got True: the step would go away "
            "from where the window went. Return the negative loss; for some parameters alone, such "
            "as multipliers, turn their gradients round by parameter.register_hook(torch.neg)."
        )


def warn_of_scales(trainer: Any, optimizer: Optimizer, inner_loop: InnerLoop) -> None:
    """Warn of learning rates of another scale than the direction's, also of a callback's."""
    warn_of_other_scale(optimizer, inner_loop)
    if trainer is not None:
        warn_of_swa(trainer, inner_loop)


def warn_of_other_scale(optimizer: Optimizer, inner_loop: InnerLoop) -> None:
    """Warn of an optimizer whose steps are far shorter or longer than where the direction leads.

    Args:
        optimizer: The outer optimizer. SGD lands where the window ended, with a learning rate of 1
            for ``direction="displacement"``, of δ for ``"unit"``.
        inner_loop: The settings.
    """
    if any("lr" not in group for group in optimizer.param_groups):
        return
    # A scheduler starts from initial_lr, or, as OneCycleLR, climbs to max_lr.
    rates = [
        group.get("max_lr", group.get("initial_lr", group["lr"]))
        for group in optimizer.param_groups
    ]
    # A group of rate 0 stays where it is, as somebody wants it to.
    rates = sorted(float(rate) for rate in rates if rate > 0)
    if not rates:
        return
    gave = f"`configure_optimizers` gave {type(optimizer).__name__}"
    is_sgd, radius = isinstance(optimizer, SGD), inner_loop.ball.radius
    farthest = rates[-1] if rates[-1] > _FAR else rates[0]
    is_near = is_sgd and 1 <= farthest * _FAR <= _FAR**2
    if inner_loop.direction == "displacement" and not is_near:
        rank_zero_warn(
            f'{gave} with lr {farthest:g} for direction="displacement", which is a whole step '
            "and wants SGD(lr=1). Return self.configure_frank_wolfe().outer(self.parameters()), or "
            'pass direction="unit".'
        )
    # One step a window is at the anchor, wherever the ball ends, and a rule sets other radii.
    goes_by_radius = inner_loop.steps > 1 and inner_loop.radius_rule is None
    is_unit = inner_loop.direction == "unit" and goes_by_radius
    if is_unit and is_sgd and rates[-1] > _FAR * radius:
        rank_zero_warn(
            f'{gave} with lr {rates[-1]:g} for direction="unit": steps of '
            f"{rates[-1] / radius:.0f} times the ball's radius {radius:g}, where no gradient was "
            f"evaluated. Return SGD(lr={radius:g}), which lands where the window ended, or "
            "self.configure_frank_wolfe().outer(self.parameters())."
        )


def warn_of_swa(trainer: Any, inner_loop: InnerLoop) -> None:
    """Warn of a StochasticWeightAveraging whose rate all but stops steps along displacements.

    Args:
        trainer: The Trainer, with its callbacks.
        inner_loop: The settings.
    """
    for callback in trainer.callbacks:
        given = getattr(callback, "_swa_lrs", 1.0)
        rate = min(given) if isinstance(given, list) else given
        if inner_loop.direction == "displacement" and rate * _FAR < 1:
            rank_zero_warn(
                f"`swa_lrs` of {type(callback).__name__} should be about 1 with "
                f'direction="displacement", which is a whole step, got {rate:g}. Pass the learning '
                "rate of the outer optimizer."
            )


def _optimizers(configured: Any) -> list[Optimizer]:
    if isinstance(configured, Mapping):
        return _optimizers(configured.get("optimizer"))
    if isinstance(configured, list | tuple):
        return [optimizer for entry in configured for optimizer in _optimizers(entry)]
    return [configured] if isinstance(configured, Optimizer) else []
