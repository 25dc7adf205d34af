"""Batch norm's running statistics, where the weights measured are not those that trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

# Batches of training that they are taken over.
BATCHES = 8


@contextmanager
def statistics_of_these_weights(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[None]:
    """Inside, running statistics are those of the model's weights over the inputs.

    Schedule-Free's authors ask for it, and an average of anchors needs it as much.

    Args:
        model: With batch norm; without, nothing is done.
        inputs: Batches of training.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    devices = [inputs[0].device] if inputs and inputs[0].is_cuda else []
    # Its dropout must not move the masks of training.
    with torch.random.fork_rng(devices):
        update_bn(inputs, model)
    try:
        yield
    finally:
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
