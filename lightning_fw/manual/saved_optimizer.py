"""The state of the optimizer in a checkpoint, where it is of no use to the one that resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.optim import Optimizer

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.saved_state import KEY

# What schedulers add to a param group.
_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}


def attend_to_saved_optimizer(trainer: Any, inner_loop: InnerLoop, optimizer: Optimizer) -> None:
    """Start the optimizer and its schedulers anew, with a warning, where the state is another's.

    torch loads the state of any optimizer into any other, whose first step then fails by a
    KeyError. Nor does a whole step, ``direction="displacement"``, want the learning rate and the
    momentum that went with gradients or unit directions, nor a unit direction those of whole steps.

    Args:
        trainer: The Trainer, which has loaded the checkpoint and not yet restored the optimizer.
        inner_loop: The settings.
        optimizer: What ``configure_optimizers`` gave.
    """
    checkpoint = trainer._checkpoint_connector._loaded_checkpoint
    states = checkpoint.get("optimizer_states")
    if not states:
        return
    window = checkpoint.get(KEY) or {}
    saved, went_with = window.get("optimizer"), window.get("settings", {}).get("direction")
    foreign = _foreign_settings(states[0], optimizer)
    if saved is not None and saved != type(optimizer).__name__:
        reason = f"is of {saved}"
    elif saved is None and foreign:
        reason = f"is of another optimizer, which has {', '.join(foreign)}"
    elif KEY not in checkpoint and inner_loop.direction == "displacement":
        reason = "went with gradients, not with whole steps"
    elif went_with not in (None, repr(inner_loop.direction)):
        reason = f"went with direction={went_with}"
    else:
        return
    checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [optimizer.state_dict()], []
    rank_zero_warn(
        f"The checkpoint's optimizer state {reason}: {type(optimizer).__name__} and its schedulers "
        "start anew. To go on with the state, resume with the optimizer and the direction that it "
        "was made with."
    )


def _foreign_settings(state: Mapping[str, Any], optimizer: Optimizer) -> list[str]:
    """Settings in the state that the optimizer has not, if it misses others there.

    One that misses some and has none too many is of an older torch.
    """
    groups = state.get("param_groups")
    if not groups:
        return []
    saved, mine = set(groups[0]) - _OF_SCHEDULERS, set(optimizer.param_groups[0])
    return sorted(saved - mine) if set(optimizer.defaults) - saved else []
