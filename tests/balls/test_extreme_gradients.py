"""Gradients at the ends of what a dtype can hold: atoms stay finite and feasible."""

from __future__ import annotations

import pytest
import torch

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
from lightning_fw.parameters import ParameterInfo

from . import reference
from .cases import ROUNDING, label, pairing, shortfall

NO_INFOS = [ParameterInfo()] * 2

# Balls whose oracle has the whole range of the dtype.
WHOLE_RANGE: tuple[Ball, ...] = (
    L1Ball(),
    LinfBall(),
    LpBall(1.01),
    LpBall(1.5),
    LpBall(50.0),
    SpectralBall(),
    SpectralBall(oracle="svd"),
    RowBall(),
    NuclearBall(iterations=100),
)
BY_NORM: tuple[Ball, ...] = (
    L2Ball(),
    L2Ball(scope="global"),
    RMSBall(),
    RMSBall(scope="global"),
)


def some_matrices() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(6, 5), torch.randn(3, 4)]


def assert_atoms_of_unscaled(
    ball: Ball, gradients: list[torch.Tensor], unscaled: list[torch.Tensor]
) -> None:
    """The atom is feasible, and as good for the gradients before they were scaled."""
    atom = ball.lmo(gradients)
    assert reference.norm(ball, atom, NO_INFOS) <= ball.radius * (1 + ROUNDING[torch.float32])
    least = -ball.radius * reference.dual_norm(ball, unscaled, NO_INFOS)
    # Twice the rounding, as scaling may round the gradient itself.
    share = 1 - shortfall(ball) - 2 * ROUNDING[torch.float32]
    assert pairing(unscaled, atom) <= share * least


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_norms_of_rows_have_the_whole_range(scale: float) -> None:
    ball, rows = RowBall(), [torch.full((2, 4), scale)]
    assert float(ball.norm(rows)) == pytest.approx(2 * scale)
    assert float(ball.dual_norm(rows)) == pytest.approx(4 * scale)


@pytest.mark.parametrize("scale", [1e-30, 1e-25, 1e-20, 1e20, 1e25, 1e37])
@pytest.mark.parametrize("ball", WHOLE_RANGE, ids=label)
def test_atom_has_the_whole_range_of_float32(ball: Ball, scale: float) -> None:
    gradients = some_matrices()
    assert_atoms_of_unscaled(ball, [gradient * scale for gradient in gradients], gradients)


@pytest.mark.parametrize("scale", [1e-15, 1e15])
@pytest.mark.parametrize("ball", BY_NORM, ids=label)
def test_atom_by_the_norm_has_the_range_of_its_square(ball: Ball, scale: float) -> None:
    gradients = some_matrices()
    assert_atoms_of_unscaled(ball, [gradient * scale for gradient in gradients], gradients)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("ball", WHOLE_RANGE + BY_NORM, ids=label)
def test_atom_of_a_vanishing_gradient_stays_in_the_ball(ball: Ball, dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).smallest_normal
    for size in (tiny * 2**-5, tiny, tiny * 2**10, tiny**0.5, tiny**0.5 * 2**10):
        gradients = [torch.full((20, 5), size, dtype=dtype), torch.full((4, 4), size, dtype=dtype)]
        atom = ball.lmo(gradients)
        bound = ball.radius * (1 + ROUNDING.get(dtype, 2**-8))
        assert reference.norm(ball, atom, NO_INFOS) <= bound, size


def test_a_vanishing_gradient_beside_one_of_wider_range_stays_in_the_ball() -> None:
    gradients = [torch.zeros(3, dtype=torch.float64), torch.full((4,), 1e-25)]
    for ball in BY_NORM:
        assert reference.norm(ball, ball.lmo(gradients), NO_INFOS) <= ball.radius


@pytest.mark.parametrize("scope", ["tensor", "global"])
def test_l2_norm_in_float64_does_not_overflow_python(scope: str) -> None:
    gradients = [torch.full((2,), 9e153, dtype=torch.float64)] * 3
    ball = L2Ball(radius=1.0, scope=scope)
    assert float(ball.norm(ball.lmo(gradients))) == pytest.approx(1.0)
    dual = ball.atoms(gradients).dual_norm()
    assert dual == pytest.approx(9e153 * (6**0.5 if scope == "global" else 3 * 2**0.5))


@pytest.mark.parametrize("ball", BY_NORM, ids=label)
def test_half_precision_norms_do_not_overflow(ball: Ball) -> None:
    gradients = [torch.full((40, 2), 6e4, dtype=torch.float16)] * 2
    atom = ball.lmo(gradients)
    assert reference.norm(ball, atom, NO_INFOS) == pytest.approx(ball.radius, rel=2**-10)


def test_one_tensor_thirty_orders_above_the_other() -> None:
    gradients = [torch.full((3,), 1e15), torch.full((3,), 1e-15), torch.zeros(3)]
    for atom, length in zip(L2Ball(radius=1.0).lmo(gradients), (1.0, 1.0, 0.0), strict=True):
        assert float(atom.norm()) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("ball", [L2Ball(), L1Ball(), LpBall(2.5), SpectralBall()], ids=label)
def test_norm_of_many_equal_float32_entries(ball: Ball) -> None:
    # Squares added one by one in float32 are 5e-4 off; `contains` allows 1e-5.
    tensor = torch.full((1, 2**21 + 1), 0.1)
    exact = reference.norm(ball, [tensor], NO_INFOS[:1])
    assert float(ball.norm([tensor])) == pytest.approx(exact, rel=1e-5)
    atom = ball.lmo([tensor])
    assert reference.norm(ball, atom, NO_INFOS[:1]) == pytest.approx(ball.radius, rel=1e-5)


def test_order_of_an_lp_ball_may_come_close_to_one() -> None:
    # q = 1e7 amplifies every rounding of |g| 1e7 times; the atom must still be in the ball.
    ball = LpBall(1 + 1e-7, radius=1.0)
    gradient = torch.tensor([1.0, 1.0 - 1e-7, 1.0, 0.5])
    atom = ball.lmo([gradient])
    assert reference.norm(ball, atom, NO_INFOS[:1]) <= 1 + 1e-6
    assert pairing([gradient], atom) <= -1 + 1e-6


def test_the_floor_of_half_precision_is_that_of_float32():
    """Its norms are of float32: by its own limits a norm of 0.2 would be too small to trust."""
    (atom,) = L2Ball(radius=1.0).lmo([torch.full((4,), 1e-3, dtype=torch.float16)])
    assert atom.tolist() == pytest.approx([-0.5] * 4, rel=1e-3)


def test_a_norm_of_squares_that_have_few_digits_left_is_not_divided_by():
    """Each of these is rounded down by 1.6 %: the atom would leave the ball."""
    gradient = torch.full((2**20,), (28.45 * 2.0**-149) ** 0.5)
    atom = L2Ball(radius=1.0).lmo([gradient])[0]
    assert 0 < torch.linalg.vector_norm(atom.double()) <= 1
