"""Ranks that get different numbers of batches, and would wait for each other in vain."""

from __future__ import annotations

from typing import Any

import torch
from torch import distributed

from lightning_fw.manual.epoch import is_last_batch


def require_even_batches(trainer: Any) -> None:
    """Raise on all ranks, at an epoch's first batch, if it gives them different numbers of batches.

    A loader that does not know its length is not seen through.

    Raises:
        ValueError: Naming the numbers.
    """
    if trainer.world_size == 1 or trainer.fit_loop.batch_idx > 0:
        return
    fewest, most = _extremes(trainer, trainer.num_training_batches)
    if fewest != most:
        raise ValueError(
            f"`train_dataloaders` must give every rank as many batches, got {fewest:.0f} to "
            f"{most:.0f}. Pass Trainer(limit_train_batches={fewest:.0f}), or a DistributedSampler."
        )


def require_even_chunks(trainer: Any, chunks: int) -> None:
    """Raise on all ranks if an epoch's last batch, which may be short, gives other chunks to some.

    Raises:
        ValueError: Naming the numbers.
    """
    if trainer.world_size == 1 or not is_last_batch(trainer):
        return
    fewest, most = _extremes(trainer, chunks)
    if fewest != most:
        raise ValueError(
            f"`train_dataloaders` must give every rank as many chunks, got {fewest:.0f} to "
            f"{most:.0f} in an epoch's last batch, which is shorter than `steps` with "
            'batches="split". Pass drop_last=True to the loader.'
        )


def _extremes(trainer: Any, mine: float) -> tuple[float, float]:
    """The smallest and the largest of the ranks' numbers."""
    device = trainer.strategy.root_device
    message = torch.tensor([mine, -mine], dtype=torch.float32, device=device)
    distributed.all_reduce(message, distributed.ReduceOp.MAX)
    most, negated = message.tolist()
    return -negated, most
