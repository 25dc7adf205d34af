"""Trainer settings that have no work left, refused with what to use instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def require_trainer_settings(trainer: Any, configured: Any) -> None:
    """Raise if the Trainer is asked for what the inner loop replaces.

    Args:
        trainer: The Trainer.
        configured: What ``configure_callbacks`` returned: a callback or several.

    Raises:
        ValueError: For gradient clipping and gradient accumulation.
    """
    clip = trainer.gradient_clip_val
    if clip:
        raise ValueError(
            f"`gradient_clip_val` must be None with FrankWolfeMixin, got {clip}: the "
            "direction is bounded already, by 1 in each ball, and a clip would only shorten the "
            "step. Remove it from the Trainer, and lower the learning rate for shorter steps."
        )
    batches = trainer.accumulate_grad_batches
    if batches != 1:
        raise ValueError(
            f"`accumulate_grad_batches` must be 1 with FrankWolfeMixin, got {batches}. "
            f"Pass InnerLoop(accumulate_grad_batches={batches}) in configure_frank_wolfe instead."
        )
    own = configured if isinstance(configured, Sequence) else [configured]
    for callback in (*trainer.callbacks, *own):
        if hasattr(callback, "get_accumulate_grad_batches"):
            raise ValueError(
                f"`callbacks` must hold no {type(callback).__name__} with FrankWolfeMixin, whose "
                "windows count on a fixed number of batches a step. Remove it, and pass "
                "InnerLoop(accumulate_grad_batches=...) in configure_frank_wolfe."
            )
