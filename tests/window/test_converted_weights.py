"""Weights that are converted after their window was made."""

from __future__ import annotations

import pytest
import torch

from lightning_fw import InnerLoop
from lightning_fw.window import Window


@pytest.mark.parametrize("first", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("steps", [0, 1])
def test_weights_of_another_dtype_are_refused_and_not_rounded(first, steps):
    layer = torch.nn.Linear(3, 2, dtype=first)
    window = Window(InnerLoop(steps=3), layer.parameters())
    for _ in range(steps):
        with window.displaced():
            layer(torch.ones(4, 3, dtype=first)).sum().backward()
        window.step()
    layer.double()
    with torch.no_grad():
        layer.weight.add_(1e-12)
    weight = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="got torch.float64 after"), window.displaced():
        pass
    assert torch.equal(layer.weight, weight)
    layer.to(first)
    with window.displaced():
        assert window.anchor.is_displaced
