"""CUDA graphs on the host: kernels are noted with their numbers and addresses, and run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_fw.window.graphs import Graphs

_READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storages(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


class EmulatedGraph(TorchDispatchMode):
    """Notes what is launched, and takes back what that wrote: a capture computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[Tensor | None]]] = []
        self._before: dict[int, tuple[Any, Any]] = {}
        self._made: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in _READS:
            raise RuntimeError(f"{func} reads the device")
        inputs = _tensors((args, kwargs))
        if func._schema.is_mutable:
            for tensor in inputs:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in self._made:
                    self._before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        outputs = func(*args, **(kwargs or {}))
        known, found = _storages(inputs), _tensors(outputs)
        self._made |= _storages(found) - known
        new = [None if tensor.untyped_storage().data_ptr() in known else tensor for tensor in found]
        self._calls.append((func, args, kwargs or {}, new))
        return outputs

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    def replay(self) -> None:
        for func, args, kwargs, new in self._calls:
            found = func(*args, **kwargs)
            for target, source in zip(new, _tensors(found), strict=True):
                if target is not None:
                    target.copy_(source)


class EmulatedGraphs(Graphs):
    """Of a device that is the host."""

    replays = 0

    def run(self, key, function, tensors=(), undo=lambda: None):
        return self._run(key, function, tensors, undo)

    def _record(self, function: Callable[[], Any]) -> tuple[Any, Any]:
        graph = EmulatedGraph()
        try:
            with graph:
                result = function()
        finally:
            graph.undo()
        EmulatedGraphs.replays += 1
        return graph, result

    def __reduce__(self):
        return EmulatedGraphs, (self._device,)
