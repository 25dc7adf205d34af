"""Norms and dual norms against numpy and torch on the concatenated blocks."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    RMSBall,
    RowBall,
    SpectralBall,
)

from . import reference
from .cases import BALLS, PROPERTY, Case, cases, label

# Norms are reduced in float32 under half precision: rounding of the sums alone.
PRECISION = {torch.float64: 1e-12, torch.float32: 3e-6, torch.bfloat16: 3e-6}


@pytest.mark.parametrize("ball", BALLS, ids=label)
@PROPERTY
@given(case=cases())
def test_norms_of_the_blocks(ball: Ball, case: Case) -> None:
    precision = PRECISION[case.gradients[0].dtype]
    for dual in (False, True):
        measure = ball.block_dual_norms if dual else ball.block_norms
        found = measure(*case)
        expected = reference.norms(ball, *case, dual=dual)
        assert found.dtype == (
            torch.float64 if case.gradients[0].dtype == torch.float64 else torch.float32
        )
        # The order of a matrix ball's blocks is its own matter.
        assert sorted(found.tolist()) == pytest.approx(sorted(expected), rel=precision, abs=1e-30)
    assert float(ball.norm(*case)) == pytest.approx(reference.norm(ball, *case), rel=precision)
    dual_norm = reference.dual_norm(ball, *case)
    assert float(ball.dual_norm(*case)) == pytest.approx(dual_norm, rel=precision, abs=1e-30)


@pytest.mark.parametrize(
    ("ball", "order", "dual_order"),
    [
        (L1Ball(scope="global"), 1, math.inf),
        (L2Ball(scope="global"), 2, 2),
        (LinfBall(scope="global"), math.inf, 1),
        (LpBall(3.0, scope="global"), 3, 1.5),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Ball) else str(value),
)
def test_global_norm_is_that_of_all_entries(ball: Ball, order: float, dual_order: float) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(4, 3), torch.randn(7), torch.randn(())]
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    torch.testing.assert_close(ball.norm(tensors), torch.linalg.vector_norm(joined, order))
    torch.testing.assert_close(
        ball.dual_norm(tensors), torch.linalg.vector_norm(joined, dual_order)
    )


def test_rms_norm_is_the_root_mean_square() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(4, 3), torch.randn(7)]
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    rms = RMSBall(scope="global").norm(tensors)
    torch.testing.assert_close(rms, joined.square().mean().sqrt())


@pytest.mark.parametrize(("ball", "order"), [(SpectralBall(), 2), (NuclearBall(), "nuc")])
def test_matrix_norm_of_more_dimensions_flattens_the_rest(ball: Ball, order: int | str) -> None:
    torch.manual_seed(0)
    kernel = torch.randn(6, 2, 3, 3)
    expected = torch.linalg.matrix_norm(kernel.reshape(6, -1), order)
    torch.testing.assert_close(ball.norm([kernel]), expected)


@pytest.mark.parametrize("ball", [SpectralBall(), RowBall(), NuclearBall()], ids=label)
def test_usage_estimates_the_mean_norm_without_a_decomposition(ball: Ball) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(32, 32), torch.randn(20, 50), torch.randn(50, 4), torch.randn(9)]
    mean = ball.block_norms(tensors).mean()
    usage = ball.usage(tensors)
    # Both estimates are lower bounds; the slack above is rounding.
    assert 0.95 * mean <= usage <= (1 + 1e-6) * mean


@pytest.mark.parametrize("ball", [L2Ball(), LinfBall(scope="global"), RMSBall()], ids=label)
def test_usage_is_the_mean_of_the_block_norms(ball: Ball) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(4, 3), torch.randn(7)]
    torch.testing.assert_close(ball.usage(tensors), ball.block_norms(tensors).mean())


def test_contains_allows_for_rounding_and_for_nothing_else() -> None:
    ball = L2Ball(radius=0.1)
    for dtype, beyond in ((torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        on_the_sphere = torch.tensor([0.06, 0.08], dtype=dtype)
        assert ball.contains([on_the_sphere])
        assert not ball.contains([on_the_sphere.double() * (1 + beyond)]), dtype
        assert not ball.contains([on_the_sphere, on_the_sphere * (1 + beyond)]), dtype
