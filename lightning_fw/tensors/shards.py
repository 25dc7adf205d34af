"""Tensors of which every rank holds a part: DTensors, as FSDP2 makes weights and gradients.

Elementwise arithmetic is done on the parts; norms and inner products are added up over the ranks
that hold them; only balls of matrices, and whitening, gather anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, distributed

if distributed.is_available():
    from torch.distributed.tensor import DTensor, Replicate

    _KIND: Any = DTensor
else:
    _KIND = None


def any_sharded(tensors: Sequence[Tensor]) -> bool:
    """Whether any of the tensors is in parts."""
    return _KIND in map(type, tensors)


def parts(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """This rank's parts; what is written to them is written to the tensors."""
    if not any_sharded(tensors):
        return tensors
    with torch.no_grad():
        return [t.to_local() if isinstance(t, DTensor) else t for t in tensors]


def whole(tensor: Tensor) -> Tensor:
    """The tensor in one piece, gathered from the ranks that hold its parts."""
    if not any_sharded([tensor]):
        return tensor
    with torch.no_grad():
        full: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return full


def saved(tensor: Tensor) -> Tensor:
    """A copy for a checkpoint: of one in parts the whole on the CPU, empty but on rank 0."""
    if not any_sharded([tensor]):
        return tensor.clone()
    gathered = whole(tensor)
    return gathered.cpu() if distributed.get_rank() == 0 else gathered.new_empty(0, device="cpu")


def like(tensor: Tensor, model: Tensor) -> Tensor:
    """A tensor in one piece, equal on all ranks, in parts as ``model`` is."""
    if not any_sharded([model]):
        return tensor
    assert isinstance(model, DTensor)
    mesh = model.device_mesh
    replicas = DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim, run_check=False)
    with torch.no_grad():
        return replicas.redistribute(placements=model.placements)


def placed_as(gradients: list[Tensor], parameters: Sequence[Tensor]) -> list[Tensor]:
    """The gradients in the parts of their parameters: tensor parallelism may leave others."""
    if not any_sharded(gradients):
        return gradients
    return [
        gradient.redistribute(placements=parameter.placements)
        if isinstance(gradient, DTensor) and isinstance(parameter, DTensor)
        else gradient
        for gradient, parameter in zip(gradients, parameters, strict=True)
    ]


def over_ranks(
    values: Sequence[Tensor],
    tensors: Sequence[Tensor],
    operation: Literal["sum", "max", "min"],
) -> list[Tensor]:
    """What each rank found on its parts, reduced: one message for tensors in the same parts.

    Args:
        values: 0-dimensional tensors, one per tensor.
        tensors: The tensors that they tell of.
        operation: How two ranks' values make one.
    """
    found = list(values)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, tensor in enumerate(tensors):
        if isinstance(tensor, DTensor):
            key = (found[index].dtype, tensor.device_mesh, *_sharded_dimensions(tensor))
            groups.setdefault(key, []).append(index)
    for (_, mesh, *dimensions), indices in groups.items():
        joined = torch.stack([found[index] for index in indices])
        for dimension in dimensions:
            reduction = getattr(distributed.ReduceOp, operation.upper())
            distributed.all_reduce(joined, reduction, group=mesh.get_group(dimension))
        for index, value in zip(indices, joined.unbind(), strict=True):
            found[index] = value
    return found


def _sharded_dimensions(tensor: DTensor) -> list[int]:
    return [
        dimension
        for dimension, placement in enumerate(tensor.placements)
        if not placement.is_replicate()
    ]


def place_among_ranks(tensor: Tensor) -> int:
    """Which of its tensor's parts this rank holds, the first where it holds all."""
    if not isinstance(tensor, DTensor):
        return 0
    place = 0
    for dimension in _sharded_dimensions(tensor):
        place = place * tensor.device_mesh.size(dimension)
        place += tensor.device_mesh.get_local_rank(dimension)
    return place
