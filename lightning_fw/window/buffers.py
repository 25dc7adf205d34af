"""Tensors that a window keeps beside parameters: their making, and their way to a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_fw.tensors.foreach import copy_, working_dtype
from lightning_fw.tensors.shards import like, saved


def zeros_beside(parameters: Sequence[Tensor]) -> list[Tensor]:
    """A zero of each parameter's shape, float32 under half precision."""
    return [
        torch.zeros_like(p, dtype=working_dtype(p.dtype), requires_grad=False) for p in parameters
    ]


def clones(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies that a checkpoint can keep; of those in parts whole ones, on rank 0 alone."""
    return [saved(tensor.detach()) for tensor in tensors]


def copy_shared(
    targets: Sequence[Tensor],
    parameters: Sequence[Tensor],
    sources: Sequence[Tensor],
    known: Sequence[Tensor],
) -> None:
    """Copy the sources that stand beside ``known`` to where the same parameters stand now."""
    for target, place in zip(targets, places(parameters, known), strict=True):
        if place is not None:
            target.copy_(sources[place])


def places(parameters: Sequence[Tensor], known: Sequence[Tensor]) -> list[int | None]:
    """Where each parameter stands among ``known``; None for one that does not."""
    by_id = {id(p): place for place, p in enumerate(known)}
    return [by_id.get(id(p)) for p in parameters]


def load(name: str, buffers: list[Tensor] | None, state: list[Tensor] | None) -> None:
    """Copy saved tensors into buffers in place; None is what was not saved.

    Raises:
        ValueError: If they do not fit each other.
    """
    if state is None:
        return
    mine = [tuple(tensor.shape) for tensor in buffers or []]
    theirs = [tuple(tensor.shape) for tensor in state]
    if buffers is None or mine != theirs:
        raise ValueError(
            f"`state` has a {name} of shapes {theirs}, expected {mine}. "
            "Load it into the parameters and the InnerLoop that it was saved from."
        )
    if buffers:
        both = zip(state, buffers, strict=True)
        copy_(buffers, [like(tensor.to(buffer.device), buffer) for tensor, buffer in both])
