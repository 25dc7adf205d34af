"""Who calls ``training_step`` or another hook: Lightning, or somebody who only wants its answer."""

from __future__ import annotations

from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn


def called_by_the_loop(module: Any, mixin: type) -> bool:
    """Whether Lightning's loop asks the module itself for a step of its training.

    Warns where a module without the mixin does, or Fabric: they train by back-propagation.

    Args:
        module: The module whose ``training_step`` was called.
        mixin: FrankWolfeMixin.
    """
    trainer = module._trainer
    if trainer is None and module._fabric is not None and torch.is_grad_enabled():
        rank_zero_warn(
            f"`training_step` of {type(module).__name__} was called under Fabric, which drives no "
            "windows: it trains by back-propagation. Step a Window in your loop, as in the docs' "
            "page on plain torch, or train by a Trainer."
        )
    if trainer is None or not trainer.training:
        return False
    outer = trainer.lightning_module
    trains_by_itself = isinstance(outer, mixin)
    if not trains_by_itself:
        name, own = type(outer).__name__, type(module).__name__
        rank_zero_warn(
            f"`training_step` of {own} was called by {name}, which has no {mixin.__name__}: it "
            f"trains by back-propagation. Write class {name}({mixin.__name__}, ...) for "
            "Frank-Wolfe."
        )
    return trains_by_itself and asked_by_the_trainer(module, "training_step")


def asked_by_the_trainer(module: Any, hook: str) -> bool:
    """Whether the module's Trainer calls its hook: another hook may, for a loss or an optimizer."""
    trainer = module._trainer
    is_driven = trainer is not None and trainer.lightning_module is module
    return is_driven and module._current_fx_name == hook
