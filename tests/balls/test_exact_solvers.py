"""Atoms against independent solvers: linear programs, SLSQP, singular value decompositions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    RowBall,
    SpectralBall,
)

from .cases import label

RADIUS = 0.7


def random(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def value_at_atom(ball: Ball, gradient: torch.Tensor) -> float:
    return float((gradient * ball.lmo([gradient])[0]).sum())


@pytest.mark.parametrize("seed", range(5))
def test_linf_ball_against_a_linear_program(seed: int) -> None:
    gradient = random(seed, 3, 4)
    solution = linprog(gradient.flatten().numpy(), bounds=(-RADIUS, RADIUS))
    assert value_at_atom(LinfBall(radius=RADIUS), gradient) == pytest.approx(solution.fun)


@pytest.mark.parametrize("seed", range(5))
def test_l1_ball_against_a_linear_program(seed: int) -> None:
    gradient = random(seed, 3, 4)
    costs = gradient.flatten().numpy()
    both = np.concatenate([costs, -costs])  # s = positive part − negative part
    solution = linprog(both, A_ub=np.ones((1, both.size)), b_ub=[RADIUS], bounds=(0, None))
    assert value_at_atom(L1Ball(radius=RADIUS), gradient) == pytest.approx(solution.fun)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_l1_ball_of_two_tensors_against_a_linear_program(seed: int, scope: str) -> None:
    gradients = [random(seed, 4), random(seed + 100, 3)]
    costs = torch.cat(gradients).numpy()
    both = np.concatenate([costs, -costs])
    first = np.array([1.0] * 4 + [0.0] * 3)
    sums = [np.ones(7)] if scope == "global" else [first, 1 - first]
    limits = np.stack([np.concatenate([row, row]) for row in sums])
    solution = linprog(both, A_ub=limits, b_ub=[RADIUS] * len(limits), bounds=(0, None))
    atoms = L1Ball(radius=RADIUS, scope=scope).lmo(gradients)
    value = sum(float((g * s).sum()) for g, s in zip(gradients, atoms, strict=True))
    assert value == pytest.approx(solution.fun)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("ball", "p"),
    [
        (L2Ball(radius=RADIUS), 2.0),
        (LpBall(1.5, radius=RADIUS), 1.5),
        (LpBall(3.0, radius=RADIUS), 3.0),
        (LpBall(7.0, radius=RADIUS), 7.0),
    ],
    ids=str,
)
def test_lp_ball_against_sequential_quadratic_programming(ball: Ball, p: float, seed: int) -> None:
    gradient = random(seed, 5)
    costs = gradient.numpy()
    room = {
        "type": "ineq",
        "fun": lambda s: RADIUS**p - (np.abs(s) ** p).sum(),
        "jac": lambda s: -p * np.sign(s) * np.abs(s) ** (p - 1),
    }
    solution = minimize(
        lambda s: costs @ s,
        -0.1 * RADIUS * costs / np.linalg.norm(costs),
        jac=lambda s: costs,
        method="SLSQP",
        constraints=[room],
        options={"ftol": 1e-9},
    )
    # 8: at the optimum rounding leaves the line search no descent, on some processors.
    assert solution.status in (0, 8)
    assert value_at_atom(ball, gradient) == pytest.approx(solution.fun, rel=1e-6)
    torch.testing.assert_close(
        ball.lmo([gradient])[0], torch.from_numpy(solution.x), atol=1e-3, rtol=1e-3
    )


def test_lp_ball_of_order_two_is_the_l2_ball() -> None:
    gradients = [random(0, 3, 4), random(1, 6)]
    for scope in ("tensor", "group", "global"):
        l2 = L2Ball(radius=RADIUS, scope=scope).lmo(gradients)
        lp = LpBall(2.0, radius=RADIUS, scope=scope).lmo(gradients)
        torch.testing.assert_close(l2, lp)


def test_lp_ball_tends_to_the_ends() -> None:
    gradient = random(0, 8)
    for ball, end in (
        (LpBall(1 + 1e-7, radius=RADIUS), L1Ball(radius=RADIUS)),
        (LpBall(1e12, radius=RADIUS), LinfBall(radius=RADIUS)),
    ):
        torch.testing.assert_close(ball.lmo([gradient]), end.lmo([gradient]), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (1, 5), (5, 1), (1, 1)])
def test_spectral_ball_against_the_polar_factor(shape: tuple[int, int]) -> None:
    gradient = random(0, *shape)
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    atom = SpectralBall(radius=RADIUS, oracle="svd").lmo([gradient])[0]
    torch.testing.assert_close(atom, -RADIUS * u @ v)


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (1, 5), (5, 1), (1, 1)])
def test_nuclear_ball_against_the_leading_singular_vectors(shape: tuple[int, int]) -> None:
    gradient = random(0, *shape)
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    atom = NuclearBall(radius=RADIUS, iterations=1000).lmo([gradient])[0]
    torch.testing.assert_close(atom, -RADIUS * u[:, :1] @ v[:1], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (3, 8), (8, 3), (1, 5), (5, 1), (1, 1)])
def test_row_ball_is_an_l2_ball_of_each_row(shape: tuple[int, int]) -> None:
    gradient = random(0, *shape)
    atom = RowBall(radius=RADIUS).lmo([gradient])[0]
    rows = L2Ball(radius=RADIUS).lmo(list(gradient.unbind()))
    torch.testing.assert_close(atom, torch.stack(rows))


@pytest.mark.parametrize(
    "balls", [(L1Ball(), LinfBall()), (SpectralBall(), NuclearBall())], ids=lambda b: label(b[0])
)
def test_each_ball_is_the_dual_of_the_other(balls: Sequence[Ball]) -> None:
    tensors = [random(0, 4, 4)]
    for one, other in (balls, balls[::-1]):
        torch.testing.assert_close(one.dual_norm(tensors), other.norm(tensors))
