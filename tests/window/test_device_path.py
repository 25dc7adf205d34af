"""The path of accelerators, where scalars stay tensors: run on the host, it must agree."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_fw import displacement as displacement_module
from lightning_fw import scalars as scalars_module

from .device_loops import LOOPS, assert_same_way, train


class ForbidReading(TorchDispatchMode):
    """Raises where a number is read off a tensor, which stalls an accelerator."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} reads the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def keep_scalars_as_tensors(monkeypatch):
    def force():
        for module in (scalars_module, displacement_module):
            monkeypatch.setattr(module, "on_host", lambda device: False)

    return force


@pytest.mark.parametrize("poisoned", [None, 0, 3, 4, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_tensor_scalars_give_what_float_scalars_give(loop, poisoned, keep_scalars_as_tensors):
    expected = train(loop, 4, poisoned)
    keep_scalars_as_tensors()
    assert_same_way(train(loop, 4, poisoned, ForbidReading), expected)
