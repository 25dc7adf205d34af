"""Arithmetic on lists of tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_fw.tensors.foreach import (
    Entrywise,
    add_scaled_,
    blend_,
    fill_scaled_,
    inner,
    lerp,
    mask_,
    pick,
    scale_,
    tensor_norms,
    working_dtype,
)


@pytest.mark.parametrize(
    ("dtype", "working"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_half_precision_works_in_float32(
    dtype: torch.dtype, working: torch.dtype, order: float
) -> None:
    assert working_dtype(dtype) == working
    assert [norm.dtype for norm in tensor_norms([torch.ones(3, dtype=dtype)], order)] == [working]
    norms = tensor_norms([torch.ones(3, dtype=dtype), torch.ones(2, dtype=torch.float64)], order)
    assert [norm.dtype for norm in norms] == [working, torch.float64]


@pytest.mark.parametrize("order", [1, 2, math.inf])
@pytest.mark.parametrize("size", [1, 1000, 2**16, 2**16 + 1, 200_000, 2**19 + 3])
def test_norms_of_any_length(order: float, size: int) -> None:
    torch.manual_seed(0)
    for tensor in (torch.randn(size), torch.full((size,), 0.1)):
        exact = float(torch.linalg.vector_norm(tensor.double(), order))
        (norm,) = tensor_norms([tensor], order)
        assert norm.shape == ()
        # Equal entries are the worst case of a plain sum of squares: 1e-5 at the longest.
        assert float(norm) == pytest.approx(exact, rel=1e-5)


def test_norms_of_no_tensors() -> None:
    assert tensor_norms([]) == []


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_norm_of_no_entries(order: float) -> None:
    (norm,) = tensor_norms([torch.ones(0, 3, dtype=torch.float16)], order)
    assert norm == 0
    assert norm.dtype == torch.float32


def test_norms_of_a_long_tensor_with_other_strides() -> None:
    torch.manual_seed(0)
    tensor = torch.randn(400, 300)
    torch.testing.assert_close(tensor_norms([tensor.T])[0], tensor.norm())


def test_inner_product_over_shapes_and_dtypes() -> None:
    left = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]).T, torch.tensor(2.0, dtype=torch.bfloat16)]
    right = [torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor(0.5, dtype=torch.float64)]
    assert inner(left, right) == 1 + 2 + 4 + 1


@pytest.mark.parametrize("size", [2**16, 2**22, 2**22 + 5])
def test_inner_product_of_any_length(size: int) -> None:
    x, y = torch.full((size,), 0.1), torch.full((size,), 0.3)
    exact = size * float(x[0]) * float(y[0])
    assert inner([x.view(-1, 1)], [y.view(-1, 1)]) == pytest.approx(exact, rel=5e-5)


def test_inner_product_in_the_wider_dtype() -> None:
    small = 1 + 2.0**-40
    mixed = [torch.ones(1, dtype=torch.bfloat16)], [torch.tensor([small], dtype=torch.float64)]
    assert inner(*mixed) == inner(*reversed(mixed)) == small
    # bfloat16 has no number between 256 and 258.
    ones = [torch.ones(257, dtype=torch.bfloat16)]
    assert inner(ones, ones) == 257


def test_inner_product_of_infinities_is_not_an_error() -> None:
    infinite = [torch.tensor([math.inf]), torch.tensor([math.inf])]
    assert math.isnan(float(inner(infinite, [torch.ones(1), -torch.ones(1)])))


@pytest.mark.parametrize("weights", [[2.0, -1.0], [torch.tensor(2.0), torch.tensor(-1.0)]])
def test_add_scaled(weights: list[float | torch.Tensor]) -> None:
    targets = [torch.ones(2), torch.ones(2, 2, dtype=torch.float64)]
    tensors = [torch.full((2,), 3.0, dtype=torch.bfloat16), torch.eye(2)]
    for mixed in (weights, [weights[0], -1.0]):
        mine = [target.clone() for target in targets]
        add_scaled_(mine, tensors, mixed)
        assert torch.equal(mine[0], torch.full((2,), 7.0))
        assert torch.equal(mine[1], 1 - torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("sizes", [(3, 2), (2**16 + 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [list, lambda tensors: Entrywise(torch.sign, tensors)])
@pytest.mark.parametrize("weight", [-0.3, torch.tensor(-0.3)])
def test_filled_is_as_added_to_zeros(
    sizes: tuple[int, ...], dtype: torch.dtype, make: Any, weight: float | torch.Tensor
) -> None:
    tensors = make([torch.randn(size, 2, dtype=dtype).T for size in sizes])
    targets = [torch.full((2, size), math.nan) for size in sizes]
    zeros = [torch.zeros(2, size) for size in sizes]
    fill_scaled_(targets, tensors, [weight, 2.0])
    add_scaled_(zeros, tensors, [weight, 2.0])
    assert all(map(torch.equal, targets, zeros))


def test_add_scaled_keeps_a_number_beside_tensors_exact() -> None:
    targets = [torch.zeros(1), torch.zeros(1, dtype=torch.float64)]
    add_scaled_(targets, [torch.ones(1)] * 2, [torch.tensor(2.0), 0.1])
    assert [float(target) for target in targets] == [2.0, 0.1]


def test_long_tensors_elsewhere_are_added_up_without_a_number_read() -> None:
    long, weight = torch.empty(2**17, device="meta"), torch.ones((), device="meta")
    with pytest.raises(RuntimeError, match="meta"):
        weight.item()
    before = long._version
    add_scaled_([long], Entrywise(torch.sign, [long]), [weight])
    assert long._version > before


def test_of_no_tensors_torch_is_asked_nothing() -> None:
    nothing: list[torch.Tensor] = []
    with pytest.raises(RuntimeError, match="at least one"):
        torch._foreach_mul_(nothing, 2.0)
    add_scaled_(nothing, [], [])
    scale_(nothing, 2.0)
    assert nothing == []


@pytest.mark.parametrize("factor", [0.25, torch.tensor(0.25)])
def test_scale_and_blend(factor: float | torch.Tensor) -> None:
    tensors = [torch.full((2,), 4.0), torch.full((), 8.0)]
    scale_(tensors, factor)
    assert torch.equal(tensors[0], torch.ones(2))
    blend_(tensors, [torch.ones(2), torch.ones(())], [-1.0, 2.0], factor)
    assert torch.equal(tensors[0], torch.full((2,), 0.5))
    assert torch.equal(tensors[1], torch.tensor(2.0))


def test_lerp_goes_a_share_of_the_way() -> None:
    starts = [torch.zeros(2, dtype=torch.bfloat16), torch.full((), 4.0)]
    found = lerp(starts, [torch.full((2,), 8.0), torch.zeros(())], 0.25)
    assert [tensor.tolist() for tensor in found] == [[2.0, 2.0], 3.0]
    assert [tensor.dtype for tensor in found] == [torch.float32] * 2
    assert [start.tolist() for start in starts] == [[0.0, 0.0], 4.0]


def test_mask_clears_what_is_not_finite() -> None:
    tensors = [torch.tensor([1.0, math.nan]), torch.tensor(math.inf)]
    assert all(not tensor.any() for tensor in mask_(tensors, torch.tensor(True)))
    kept = mask_([torch.ones(2)], torch.tensor(False))
    assert torch.equal(kept[0], torch.ones(2))


def test_pick() -> None:
    items = ["a", "b", "c"]
    assert pick(items, [0, 2]) == ["a", "c"]
    assert pick(items, []) == []
    assert pick(items, [0, 1, 2]) is items
