"""Who calls ``training_step``: Lightning's loop, or somebody who only wants a loss."""

from __future__ import annotations

from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn


def called_by_the_loop(module: Any, mixin: type) -> bool:
    """Whether Lightning's loop asks the module itself for a step of its training.

    Warns where a module without the mixin does: it trains the parameters by back-propagation.

    Args:
        module: The module whose ``training_step`` was called.
        mixin: FrankWolfeMixin.
    """
    trainer = module._trainer
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
    # Lightning tells what it calls: a hook may call training_step for a loss alone.
    return trains_by_itself and outer is module and module._current_fx_name == "training_step"
