"""`atoms`, what the window uses: factors on tensors, given norms, tensors as scalars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_fw.balls import (
    Ball,
    L2Ball,
    NuclearBall,
    ProductBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.balls._base import Atoms
from lightning_fw.parameters import ParameterInfo
from lightning_fw.tensors.foreach import tensor_norms

from . import reference
from .cases import BALLS, PROPERTY, ROUNDING, Case, cases, label

BY_NORM: tuple[Ball, ...] = tuple(
    kind(radius=0.3, scope=scope)
    for kind in (L2Ball, RMSBall)
    for scope in ("tensor", "group", "global")
)
by_norm = pytest.mark.parametrize("ball", BY_NORM, ids=label)


class CountOperations(TorchDispatchMode):
    """Counts the tensor operations that run inside."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def dense(atoms: Atoms) -> list[Tensor]:
    return [
        tensor.double() * scale for tensor, scale in zip(atoms.tensors, atoms.scales, strict=True)
    ]


@by_norm
def test_given_norms_leave_nothing_for_tensor_operations(ball: Ball) -> None:
    gradients = [torch.ones(3, 4), torch.ones(5)]
    infos = [ParameterInfo(group=1), ParameterInfo(group=0)]
    norms = [norm.item() for norm in tensor_norms(gradients)]
    with CountOperations() as operations:
        atoms = ball.atoms(gradients, infos, norms)
    assert operations.count == 0
    assert all(
        tensor is gradient for tensor, gradient in zip(atoms.tensors, gradients, strict=True)
    )
    with CountOperations() as operations:
        ball.atoms(gradients, infos)
    assert operations.count > 0  # the counter counts


@pytest.mark.parametrize("ball", BALLS, ids=label)
@PROPERTY
@given(case=cases())
def test_atoms_with_given_norms(ball: Ball, case: Case) -> None:
    gradients, infos = case
    norms = tensor_norms(gradients)
    expected = dense(ball.atoms(gradients, infos))
    on_the_host = ball.atoms(gradients, infos, [norm.item() for norm in norms])
    torch.testing.assert_close(dense(on_the_host), expected, rtol=0, atol=0)
    # As on an accelerator, where a norm stays a tensor.
    on_the_device = ball.atoms(gradients, infos, norms)
    rounding = ROUNDING[gradients[0].dtype]
    torch.testing.assert_close(dense(on_the_device), expected, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("ball", BALLS, ids=label)
def test_norms_that_are_tensors_keep_zero_at_zero(ball: Ball) -> None:
    gradients = [torch.zeros(300, 200), torch.zeros(300)]
    infos = [ParameterInfo("0"), ParameterInfo("1")]
    for atom in dense(ball.atoms(gradients, infos, tensor_norms(gradients))):
        assert not atom.any()


@pytest.mark.parametrize("ball", BALLS, ids=label)
@PROPERTY
@given(case=cases())
def test_a_known_dual_norm_is_the_dual_norm(ball: Ball, case: Case) -> None:
    gradients, infos = case
    norms = tensor_norms(gradients)
    for given_norms in (None, [norm.item() for norm in norms], norms):
        dual = ball.atoms(gradients, infos, given_norms).dual_norm
        if dual is not None:
            dual, exact = dual(), reference.dual_norm(ball, gradients, infos)
            assert float(dual) == pytest.approx(exact, rel=3e-6, abs=1e-30)


@by_norm
def test_balls_by_norm_know_their_dual_norm(ball: Ball) -> None:
    assert ball.atoms([torch.ones(3)]).dual_norm is not None
    product = ProductBall({"*": ball}, radius=2.0)
    assert product.atoms([torch.ones(3)]).dual_norm() == pytest.approx(
        float(ball.dual_norm([torch.ones(3)])) * ball.radius
    )


def test_a_product_knows_its_dual_norm_where_all_parts_do() -> None:
    infos = [ParameterInfo("a"), ParameterInfo("b")]
    ball = ProductBall({"a": L2Ball(), "b": SpectralBall()})
    assert ball.atoms([torch.ones(2, 2)] * 2, infos).dual_norm is None


@pytest.mark.parametrize("ball", [SpectralBall(), RowBall(), NuclearBall()], ids=label)
def test_matrix_atoms_of_half_precision_stay_in_float32_until_they_are_asked_for(
    ball: Ball,
) -> None:
    gradients = [torch.ones(3, 4, dtype=torch.bfloat16)]
    assert ball.atoms(gradients).tensors[0].dtype == torch.float32
    assert ball.lmo(gradients)[0].dtype == torch.bfloat16
