"""Ranks that get different numbers of batches, and would wait for each other in vain."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from lightning_fw.inner_loop import InnerLoop
from lightning_fw.manual.ranks import ranks


def require_even_batches(trainer: Any, inner_loop: InnerLoop) -> None:
    """Raise on all ranks if an epoch gives them different numbers of batches and they may not.

    Windows apart may be of different numbers where nothing but restarts asks for all ranks. A
    loader that does not know its length is not seen through.

    Raises:
        ValueError: At the epoch's first batch.
    """
    reason = _reason(trainer, inner_loop)
    if ranks() == 1 or reason is None or trainer.fit_loop.batch_idx > 0:
        return
    mine = float(trainer.num_training_batches)
    extremes = torch.tensor([mine, -mine], device=trainer.strategy.root_device)
    distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
    most, fewest = int(extremes[0]), int(-extremes[1])
    if most != fewest:
        raise ValueError(
            f"`train_dataloaders` must give every rank as many batches {reason}, got {fewest} to "
            f"{most}. Pass Trainer(limit_train_batches={fewest}), a DistributedSampler, or "
            'InnerLoop(sync="restart") without what asks all ranks in mid-epoch.'
        )


def _reason(trainer: Any, inner_loop: InnerLoop) -> str | None:
    """What asks all ranks in mid-epoch."""
    if inner_loop.sync == "step":
        return 'with sync="step"'
    if inner_loop.restart_when is not None:
        return "with `restart_when`"
    every = trainer.val_check_interval
    if trainer.enable_validation and every != 1.0:
        return f"with val_check_interval={every}"
    for callback in trainer.checkpoint_callbacks:
        if getattr(callback, "_every_n_train_steps", 0) or getattr(
            callback, "_train_time_interval", None
        ):
            return f"with a {type(callback).__name__} that saves in mid-epoch"
    return None
