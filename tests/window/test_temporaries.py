"""A step on a CPU makes no tensor of a long parameter's size, whose memory costs the most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_fw import InnerLoop
from lightning_fw.balls import L2Ball, LinfBall, RMSBall
from lightning_fw.balls._vector import VectorBall
from lightning_fw.window import Window

PIECE = 2**18
ROWS, COLUMNS = 2, 3 * PIECE // 2 + 3


class LargestNewTensor(TorchDispatchMode):
    """Entries of the largest tensor with memory of its own that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        known = {x.untyped_storage().data_ptr() for x in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for x in _tensors(result):
            if x.untyped_storage().data_ptr() not in known:
                self.entries = max(self.entries, x.numel())
        return result


def _tensors(tree: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def largest_made(weight: Tensor, inner_loop: InnerLoop, gradients: Sequence[Tensor]) -> int:
    """Run a window with these gradients, one a step, and leave its direction in ``grad``."""
    window = Window(inner_loop, [weight], statistics=False)
    with LargestNewTensor() as made:
        for gradient in gradients:
            weight.grad = gradient
            window.step()
    window.close()
    return made.entries


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("kind", [L2Ball, LinfBall, RMSBall])
def test_no_long_tensor_is_made(kind: type[VectorBall], scope: Any, momentum: float) -> None:
    weight = torch.zeros(ROWS, COLUMNS, requires_grad=True)
    loop = InnerLoop(ball=kind(radius=0.1, scope=scope), steps=2, momentum=momentum)
    assert largest_made(weight, loop, [torch.ones(ROWS, COLUMNS)] * 2) <= PIECE


@pytest.mark.parametrize("transposed", [False, True])
def test_pieces_are_the_whole(transposed: bool) -> None:
    torch.manual_seed(0)
    shape = (COLUMNS, ROWS) if transposed else (ROWS, COLUMNS)
    weight = torch.zeros(shape)
    weight = (weight.T if transposed else weight).requires_grad_()
    gradients = [torch.randn(ROWS, COLUMNS) for _ in range(2)]
    largest_made(weight, InnerLoop(ball=LinfBall(radius=0.1), steps=2), gradients)
    assert weight.grad is not None
    assert torch.equal(weight.grad, (gradients[0].sign() + gradients[1].sign()) / 2)
