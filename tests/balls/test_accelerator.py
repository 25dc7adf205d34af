"""On an accelerator: the same atoms, and no host-device synchronization."""

from __future__ import annotations

import pytest
import torch

from lightning_fw.balls import Ball
from lightning_fw.balls._polar import polar_newton_schulz
from lightning_fw.parameters import ParameterInfo
from tests.accelerator import NEEDS_CUDA, synchronizations_are_errors

from .cases import BALLS, label

pytestmark = NEEDS_CUDA

# A decomposition reads its own success off the device.
WITHOUT_DECOMPOSITION = [ball for ball in BALLS if "svd" not in repr(ball)]

INFOS = [ParameterInfo("0", gates=4), ParameterInfo("1"), ParameterInfo("2", group=1)]


def gradients(dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape).to(dtype) for shape in ((64, 16), (64,), (16, 64))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ball", WITHOUT_DECOMPOSITION, ids=label)
def test_same_atoms_without_a_synchronization(ball: Ball, dtype: torch.dtype) -> None:
    on_host = gradients(dtype)
    on_device = [gradient.cuda() for gradient in on_host]
    ball.lmo(on_device, INFOS)  # libraries are loaded at their first call
    ball.usage(on_device, INFOS)
    with synchronizations_are_errors():
        atoms = ball.lmo(on_device, INFOS)
        ball.usage(on_device, INFOS)
    for atom, expected in zip(atoms, ball.lmo(on_host, INFOS), strict=True):
        assert atom.is_cuda
        tolerance = 1e-3 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(atom.cpu(), expected, rtol=tolerance, atol=tolerance * 0.1)


@pytest.mark.parametrize("ball", BALLS, ids=label)
def test_zero_gradient_has_the_zero_atom(ball: Ball) -> None:
    zeros = [torch.zeros_like(gradient).cuda() for gradient in gradients(torch.float32)]
    assert not any(atom.any() for atom in ball.lmo(zeros, INFOS))


@pytest.mark.parametrize("shape", [(256, 256), (512, 2048), (1024, 1024)])
@pytest.mark.parametrize("decades", [0, 2, 5])
def test_wide_matrices_keep_the_stated_error_in_half_precision(shape, decades):
    rows, columns = shape
    torch.manual_seed(0)
    left = torch.linalg.qr(torch.randn(2, rows, rows, device="cuda", dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(2, columns, rows, device="cuda", dtype=torch.float64))[0]
    values = torch.logspace(0, -decades, rows, device="cuda", dtype=torch.float64)
    matrices = ((left * values) @ right.mT).float()
    atom = polar_newton_schulz(matrices)
    assert atom.dtype == torch.float32
    found = torch.linalg.svdvals(atom.double())
    large = int((values > 1e-3 * values.norm()).sum())
    assert found.amax() <= 1 + 1e-5
    assert found[:, large - 1].amin() >= 0.97
    product = (matrices * atom).sum((-2, -1)) / values.sum()
    assert product.amin() >= 0.98
