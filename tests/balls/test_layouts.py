"""Strides, views and mixed dtypes do not change an atom."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.balls import Ball
from lightning_fw.parameters import ParameterInfo

from .cases import BALLS, label

every_ball = pytest.mark.parametrize("ball", BALLS, ids=label)


@every_ball
def test_atom_of_a_gradient_with_other_strides(ball: Ball) -> None:
    torch.manual_seed(0)
    gradients = [
        torch.randn(3, 4).T,
        torch.randn(8, 3)[::2],
        torch.randn(3).expand(4, 3),
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(10)[::3],
    ]
    infos = [ParameterInfo("0"), ParameterInfo("1"), ParameterInfo("0"), *[ParameterInfo("2")] * 2]
    assert not any(gradient.is_contiguous() for gradient in gradients)
    expected = ball.lmo([gradient.contiguous() for gradient in gradients], infos)
    torch.testing.assert_close(ball.lmo(gradients, infos), expected)
    contiguous = [gradient.contiguous() for gradient in gradients]
    torch.testing.assert_close(ball.norm(gradients, infos), ball.norm(contiguous, infos))
    torch.testing.assert_close(ball.dual_norm(gradients, infos), ball.dual_norm(contiguous, infos))


@every_ball
def test_each_parameter_keeps_its_own_dtype(ball: Ball) -> None:
    torch.manual_seed(0)
    # Entries that bfloat16 holds, so that only the dtypes differ.
    exact = [torch.randn(s).bfloat16() for s in ((4, 3), (4, 3), (4, 3), (5,), (5,), (5,))]
    dtypes = [torch.float64, torch.float32, torch.bfloat16] * 2
    infos = [ParameterInfo(name) for name in "012012"]
    mixed = [tensor.to(dtype) for tensor, dtype in zip(exact, dtypes, strict=True)]
    atoms = ball.lmo(mixed, infos)
    assert [atom.dtype for atom in atoms] == dtypes
    expected = ball.lmo([tensor.double() for tensor in exact], infos)
    for atom, other in zip(atoms, expected, strict=True):
        torch.testing.assert_close(atom, other.to(atom.dtype), rtol=2**-7, atol=1e-5)
    assert ball.contains(atoms, infos)
