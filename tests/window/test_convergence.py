"""Frank-Wolfe converges: to known optima, with a gap that falls like 1 / k."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lightning_fw import (
    Harmonic,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    NuclearBall,
    OpenLoop,
    RowBall,
    ShortStep,
    SpectralBall,
)
from lightning_fw.window import Window

STEPS = 1000


def minimize(loss_of, shape, ball, step_size, steps=STEPS):
    """The gaps, losses and end of one long window from zero, with full gradients."""
    weight = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    loop = InnerLoop(ball=ball, steps=steps, step_size=step_size)
    window = Window(loop, [weight])
    gaps, losses = [], []
    for _ in range(steps):
        with window.displaced():
            loss = loss_of(weight)
            loss.backward()
            gradient, point = weight.grad.clone(), weight.detach().clone()
        gap = (gradient * point).sum() + ball.radius * ball.dual_norm([gradient])
        gaps.append(gap.item())
        losses.append(loss.item())
        window.step()
    with window.displaced():
        end = weight.detach().clone()
    return np.array(gaps), np.array(losses), end


def slope_of(gaps) -> float:
    """Exponent of the smallest gap so far against k, on a log-log scale."""
    k = np.arange(1, len(gaps) + 1)
    smallest = np.minimum.accumulate(gaps)
    late = slice(20, None)
    return float(np.polyfit(np.log(k[late]), np.log(smallest[late]), 1)[0])


def quadratic(target: torch.Tensor):
    curvature = torch.linspace(1.0, 4.0, target.numel(), dtype=torch.float64).view_as(target)
    return lambda w: 0.5 * (curvature * (w - target).square()).sum()


CENTER = torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    "ball", [L1Ball(radius=1.0), L2Ball(radius=1.0), LinfBall(radius=0.5), L2Ball(radius=10.0)]
)
def test_the_gap_of_a_quadratic_falls_like_one_over_k(ball):
    gaps, _, _ = minimize(quadratic(CENTER), (12,), ball, OpenLoop())
    assert (gaps >= -1e-12).all()
    assert slope_of(gaps) <= -0.9


def test_a_quadratic_in_a_box_ends_at_the_clipped_center():
    _, _, end = minimize(quadratic(CENTER), (12,), LinfBall(radius=0.5), OpenLoop())
    torch.testing.assert_close(end, CENTER.clamp(-0.5, 0.5), rtol=0, atol=5e-3)


def test_a_quadratic_in_an_l2_ball_ends_where_lagrange_says():
    _, _, end = minimize(quadratic(CENTER), (12,), L2Ball(radius=1.0), OpenLoop())
    curvature = torch.linspace(1.0, 4.0, 12, dtype=torch.float64)
    low, high = 0.0, 1e3
    for _ in range(200):
        multiplier = (low + high) / 2
        optimum = curvature * CENTER / (curvature + multiplier)
        low, high = (multiplier, high) if optimum.norm() > 1 else (low, multiplier)
    torch.testing.assert_close(end, optimum, rtol=0, atol=1e-3)


def test_an_interior_optimum_is_found():
    _, _, end = minimize(quadratic(CENTER), (12,), L2Ball(radius=10.0), ShortStep(4.0))
    torch.testing.assert_close(end, CENTER, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ball", [SpectralBall(radius=0.5, oracle="svd"), NuclearBall(radius=0.5)])
def test_matrix_balls_project_a_matrix(ball):
    """argmin ‖W − M‖²_F over the ball: the singular values are projected, the vectors stay."""
    target = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    _, _, end = minimize(lambda w: 0.5 * (w - target).square().sum(), (4, 3), ball, OpenLoop())
    u, s, vh = torch.linalg.svd(target, full_matrices=False)
    if isinstance(ball, SpectralBall):
        values = s.clamp(max=0.5)
    else:
        low, high = 0.0, s.max().item()
        for _ in range(100):
            threshold = (low + high) / 2
            values = (s - threshold).clamp(min=0)
            low, high = (threshold, high) if values.sum() > 0.5 else (low, threshold)
    torch.testing.assert_close(end, u @ torch.diag(values) @ vh, rtol=0, atol=2e-2)


def test_the_row_ball_projects_row_by_row():
    target = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ball = RowBall(radius=1.0)
    _, _, end = minimize(lambda w: 0.5 * (w - target).square().sum(), (4, 3), ball, OpenLoop())
    norms = target.norm(dim=1, keepdim=True)
    assert (norms > 1).any() and (norms < 1).any()
    torch.testing.assert_close(end, target / norms.clamp_min(1), rtol=0, atol=2e-2)


@pytest.fixture(scope="module")
def digits_loss():
    datasets = pytest.importorskip("sklearn.datasets", reason="needs the extra `data`")
    digits = datasets.load_digits()
    images = torch.tensor(digits.data / 16.0)
    labels = torch.tensor(digits.target)

    def loss_of(weight):
        return nn.functional.cross_entropy(images @ weight, labels) + 5e-3 * weight.square().sum()

    return loss_of


@pytest.fixture(scope="module")
def digits_optimum(digits_loss):
    weight = nn.Parameter(torch.zeros(64, 10, dtype=torch.float64))
    solver = torch.optim.LBFGS(
        [weight],
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        solver.zero_grad()
        loss = digits_loss(weight)
        loss.backward()
        return loss

    solver.step(closure)
    assert closure() and weight.grad.abs().max() < 1e-8
    return digits_loss(weight).item(), weight.detach().norm().item()


@pytest.mark.parametrize("step_size", [OpenLoop(), Harmonic()], ids=str)
def test_logistic_regression_on_the_digits_reaches_the_optimum(
    digits_loss, digits_optimum, step_size
):
    best, length = digits_optimum
    ball = L2Ball(radius=1.5 * length)
    gaps, losses, _ = minimize(digits_loss, (64, 10), ball, step_size, 400)
    assert (losses - best <= gaps + 1e-9).all()
    assert (losses - best >= -1e-9).all()
    if step_size == OpenLoop():
        assert slope_of(gaps) <= -0.9
        assert losses[-1] - best < 0.01 * (losses[0] - best)


def test_logistic_regression_with_the_optimum_outside_the_ball(digits_loss, digits_optimum):
    best, length = digits_optimum
    gaps, losses, end = minimize(
        digits_loss, (64, 10), L2Ball(radius=0.3 * length), OpenLoop(), 300
    )
    assert slope_of(gaps) <= -0.9
    assert end.norm().item() == pytest.approx(0.3 * length, rel=1e-2)
    assert losses[-1] > best
