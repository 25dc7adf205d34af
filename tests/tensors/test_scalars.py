"""Scalars read the same as Python floats and as tensors."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_fw.tensors.scalars import (
    at_least,
    at_most,
    gather,
    hypotenuse,
    is_finite,
    masked,
    multiples,
    negative_inverses,
    products,
    scalar,
    scalars,
    total,
)


def test_a_scalar_on_the_host_is_a_float() -> None:
    value = scalar(torch.tensor(0.5))
    assert isinstance(value, float)
    assert value == 0.5


def test_scalars_of_many_tensors() -> None:
    values = scalars([torch.tensor(0.5), torch.tensor(2.0)])
    assert list(values) == [0.5, 2.0]
    assert all(isinstance(value, float) for value in values)
    assert list(scalars([])) == []


def test_a_scalar_elsewhere_stays_a_tensor() -> None:
    elsewhere = torch.ones((), device="meta")
    assert scalar(elsewhere) is elsewhere
    assert scalars([elsewhere])[0] is elsewhere


@pytest.mark.parametrize("value", [-2.0, 0.0, 3.0, math.inf, -math.inf])
def test_bounds(value: float) -> None:
    for bound, builtin in ((at_least, max), (at_most, min)):
        assert bound(value, 1.0) == builtin(value, 1.0)
        assert float(bound(torch.tensor(value), 1.0)) == builtin(value, 1.0)


def test_bounds_keep_a_nan() -> None:
    for bound in (at_least, at_most):
        assert math.isnan(float(bound(math.nan, 1.0)))
        assert math.isnan(float(bound(torch.tensor(math.nan), 1.0)))


@pytest.mark.parametrize("values", [[1.0], [3.0, 4.0], [1.0, 2.0, 2.0]])
def test_total_and_hypotenuse(values: list[float]) -> None:
    tensors = [torch.tensor(value) for value in values]
    assert total(values) == float(total(tensors)) == sum(values)
    length = math.sqrt(sum(value**2 for value in values))
    assert hypotenuse(values) == pytest.approx(length)
    assert float(hypotenuse(tensors)) == pytest.approx(length)


def test_nothing_adds_up_to_zero() -> None:
    assert total([]) == 0
    assert negative_inverses([], []) == products([], []) == []
    assert hypotenuse([]) == 0


def test_infinities_are_not_an_error() -> None:
    assert math.isnan(float(total([math.inf, -math.inf])))
    assert hypotenuse([1e200, math.inf]) == math.inf
    assert hypotenuse([3e200, 4e200]) == pytest.approx(5e200)


@pytest.mark.parametrize("value", [0.0, math.inf, -math.inf, math.nan])
def test_is_finite(value: float) -> None:
    assert is_finite(value) == math.isfinite(value)
    found = is_finite(torch.tensor(value))
    assert isinstance(found, torch.Tensor)
    assert bool(found) == math.isfinite(value)


def test_what_is_gathered_keeps_the_order() -> None:
    mixed = [1.0, torch.tensor(2.0), 3, torch.tensor(4.0, dtype=torch.float64)]
    assert gather(mixed).read() == [1.0, 2.0, 3.0, 4.0]
    assert all(isinstance(value, float) for value in gather(mixed).read())
    assert gather([1, 2.5]).read() == [1.0, 2.5]
    assert gather([]).read() == []


MIXED = [2.0, 1.0, torch.tensor(3.0), torch.tensor(1.0), torch.tensor(5.0, dtype=torch.float64)]


@pytest.mark.parametrize("shift", range(len(MIXED)))
def test_products_of_numbers_and_tensors(shift: int) -> None:
    others = [*MIXED[shift:], *MIXED[:shift]]
    found = products(MIXED, others)
    for x, y, product in zip(MIXED, others, found, strict=True):
        assert float(product) == float(x) * float(y)
        # Times the number 1 a scalar is what it is; else a tensor on either side makes one.
        is_tensor = isinstance(x, torch.Tensor) or isinstance(y, torch.Tensor)
        assert isinstance(product, torch.Tensor) == is_tensor


def test_a_multiple_by_one_is_the_scalar_itself() -> None:
    values = [torch.tensor(3.0), 0.5]
    assert multiples(values, 1.0)[0] is values[0]
    assert [float(value) for value in multiples(values, torch.tensor(2.0))] == [6.0, 1.0]
    assert multiples([0.5, 3.0], 2.0) == [1.0, 6.0]


def test_negative_inverses_stop_at_their_floors() -> None:
    values, floors = [4.0, 0.0, -1.0], [0.5, 0.25, 0.125]
    assert negative_inverses(values, floors) == [-0.25, -4.0, -8.0]
    tensors = [torch.tensor(value) for value in values]
    assert [float(value) for value in negative_inverses(tensors, floors)] == [-0.25, -4.0, -8.0]
    assert [float(value) for value in tensors] == values


def test_masked_scalars_are_zeros() -> None:
    values = [torch.tensor(math.nan), torch.tensor(2.0)]
    assert [float(value) for value in masked(values, torch.tensor(True))] == [0.0, 0.0]
    assert float(masked(values, torch.tensor(False))[1]) == 2.0


def test_what_is_gathered_is_as_wide_as_its_widest() -> None:
    third = torch.tensor(1 / 3, dtype=torch.float64)
    assert gather([torch.tensor(1.0), third]).read() == [1.0, 1 / 3]
    narrow = gather([torch.tensor(2049.0), torch.tensor(1.0, dtype=torch.float16)])
    assert narrow.of_device is not None
    assert narrow.of_device.dtype == torch.float32
