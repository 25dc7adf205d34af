"""What a window can move, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from lightning_fw.parameters import ParameterInfo
from lightning_fw.window.movable import movable


@pytest.mark.parametrize("shape", [(3, 2), ()])
def test_one_tensor_is_no_list_of_them(shape: tuple[int, ...]) -> None:
    with pytest.raises(TypeError, match=r"`parameters` must be a list .* shape \(.*Pass \[tensor"):
        movable(nn.Parameter(torch.ones(shape)))


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda module: module.named_parameters(), "tuple"),
        (lambda module: [{"params": list(module.parameters())}], "dict"),
        (lambda module: module.state_dict(), "str"),
    ],
    ids=["named parameters", "param groups", "state"],
)
def test_what_are_no_tensors_is_refused(wrong: Any, found: str) -> None:
    with pytest.raises(TypeError, match=f"`parameters` must be tensors, got a {found} among them"):
        movable(wrong(nn.GRU(3, 6)))


def test_a_tensor_that_was_computed_is_refused() -> None:
    with pytest.raises(ValueError, match="`parameters` must be leaves of the graph, got a tensor"):
        movable([2 * nn.Parameter(torch.ones(2))])


def test_what_is_known_of_a_tied_weight_is_what_was_first() -> None:
    weight = torch.ones(2)
    _, known = movable([weight, weight], [ParameterInfo("words"), ParameterInfo("head", group=1)])
    assert known == [ParameterInfo("words")]


def test_there_must_be_something_to_move() -> None:
    with pytest.raises(ValueError, match="`parameters` must hold at least one trainable tensor"):
        movable([])


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64])
def test_only_real_floating_point_tensors_move(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="must be real floating-point tensors, got one of torch"):
        movable([torch.ones(2), torch.ones(2, dtype=dtype)])
    with pytest.raises(ValueError, match="got one on meta beside one on cpu. Move it, or leave"):
        movable([torch.ones(2), torch.ones(2, device="meta")])
    movable([torch.ones(2), torch.ones(2, dtype=torch.bfloat16)])
