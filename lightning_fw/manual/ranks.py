"""What ranks tell each other besides the gradients that a strategy averages."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, distributed

from lightning_fw.inner_loop import InnerLoop


def _ranks() -> int:
    is_running = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if is_running else 1


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean over all ranks: one collective where there are several."""
    ranks = _ranks()
    if ranks == 1:
        return tensor
    distributed.all_reduce(tensor)
    return tensor.div_(ranks)


def synchronize_buffers(module: Any) -> None:
    """Give all ranks the buffers of rank 0, such as batch-norm statistics.

    DDP does so once a batch, before the first of its evaluations; those after it let ranks drift.
    With ``DDPStrategy(broadcast_buffers=False)`` they are each rank's own.
    """
    wanted = getattr(module.trainer.strategy, "_ddp_kwargs", {}).get("broadcast_buffers", True)
    if wanted and _ranks() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


def backward_passes_apart(trainer: Any, inner_loop: InnerLoop) -> AbstractContextManager[None]:
    """Gradients stay each rank's own inside, with ``sync="restart"``."""
    if inner_loop.sync == "step" or _ranks() == 1:
        return nullcontext()
    apart: AbstractContextManager[None] = trainer.strategy.block_backward_sync()
    return apart
