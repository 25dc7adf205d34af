"""What ranks tell each other besides the gradients that a strategy averages."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed

from lightning_fw.inner_loop import InnerLoop

# The name as of torch 2.13, and the one before.
_BUFFER_SETTINGS = ("forward_sync_buffers", "broadcast_buffers")


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean over all ranks, by one collective."""
    distributed.all_reduce(tensor)
    return tensor.div_(distributed.get_world_size())


def are_apart(trainer: Any, inner_loop: InnerLoop) -> bool:
    """Whether ranks run windows of their own."""
    return bool(inner_loop.sync == "restart" and trainer.world_size > 1)


def synchronize_buffers(module: Any) -> None:
    """Give all ranks the buffers of rank 0, such as batch-norm statistics.

    Under automatic optimization DDP does so at every batch; under manual optimization Lightning
    2.6.6 turns that off (``strategies/ddp.py``, ``on_after_inner_forward``). Under strategies other
    than DDP, and where the user told it not to, of all or of some, they are each rank's own.
    """
    settings = getattr(module.trainer.strategy, "_ddp_kwargs", None)
    if settings is None or module.trainer.world_size == 1:
        return
    if False in map(settings.get, _BUFFER_SETTINGS):
        return
    # Set by DDP's _set_params_and_buffers_to_ignore_for_model.
    ignored = getattr(module, "_ddp_params_and_buffers_to_ignore", ())
    by_dtype: dict[torch.dtype, list[Tensor]] = {}
    for name, buffer in module.named_buffers():
        if name not in ignored:
            by_dtype.setdefault(buffer.dtype, []).append(buffer)
    for buffers in by_dtype.values():
        message = torch.cat([buffer.reshape(-1) for buffer in buffers])
        distributed.broadcast(message, src=0)
        values = torch.split(message, [buffer.numel() for buffer in buffers])
        for buffer, value in zip(buffers, values, strict=True):
            buffer.copy_(value.view_as(buffer))


def backward_passes_apart(trainer: Any, *, apart: bool) -> AbstractContextManager[None]:
    """Gradients stay each rank's own inside."""
    if not apart:
        return nullcontext()
    blocked: AbstractContextManager[None] = trainer.strategy.block_backward_sync()
    return blocked
