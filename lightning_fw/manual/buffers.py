"""Buffers under several ranks: equal again after each restart."""

from __future__ import annotations

from typing import Any

from torch import distributed


def synchronize_buffers(module: Any) -> None:
    """Give all ranks the buffers of rank 0, such as batch-norm statistics.

    DDP does so once a batch, before the first of its evaluations; those after it let ranks drift.
    With ``DDPStrategy(broadcast_buffers=False)`` they are each rank's own.
    """
    strategy = module.trainer.strategy
    wanted = getattr(strategy, "_ddp_kwargs", {}).get("broadcast_buffers", True)
    if wanted and module.trainer.world_size > 1 and distributed.is_initialized():
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)
