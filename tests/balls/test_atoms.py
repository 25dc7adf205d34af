"""An atom is feasible and minimizes ⟨g, s⟩ over the ball."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fw.balls import Ball
from lightning_fw.parameters import ParameterInfo

from . import reference
from .cases import BALLS, PROPERTY, ROUNDING, Case, cases, label, pairing, shortfall

every_ball = pytest.mark.parametrize("ball", BALLS, ids=label)


@every_ball
@PROPERTY
@given(case=cases())
def test_atom_is_feasible(ball: Ball, case: Case) -> None:
    atom = ball.lmo(case.gradients, case.infos)
    assert ball.contains(atom, case.infos)
    slack = 1 + ROUNDING[case.gradients[0].dtype]
    assert reference.norm(ball, atom, case.infos) <= ball.radius * slack


@every_ball
@PROPERTY
@given(case=cases())
def test_atom_attains_the_dual_norm(ball: Ball, case: Case) -> None:
    gradients, infos = case
    least = -ball.radius * reference.dual_norm(ball, gradients, infos)
    value = pairing(gradients, ball.lmo(gradients, infos))
    rounding = ROUNDING[gradients[0].dtype] * abs(least)
    assert least - rounding <= value <= (1 - shortfall(ball)) * least + rounding


@every_ball
@PROPERTY
@given(case=cases(), seed=st.integers(0, 2**31))
def test_no_point_of_the_ball_is_better(ball: Ball, case: Case, seed: int) -> None:
    gradients, infos = case
    value = pairing(gradients, ball.lmo(gradients, infos))
    slack = (shortfall(ball) + ROUNDING[gradients[0].dtype]) * abs(value)
    generator = torch.Generator().manual_seed(seed)
    for lean in (0.0, 0.5, 4.0):
        point = []
        for gradient in gradients:
            g = gradient.double()
            noise = torch.randn(g.shape, generator=generator, dtype=g.dtype)
            point.append(noise - lean * g / g.abs().max().clamp_min(1e-300))
        length = reference.norm(ball, point, infos)
        point = [x * (ball.radius / length) for x in point]
        assert value <= pairing(gradients, point) + slack


@every_ball
@PROPERTY
@given(case=cases(), seed=st.integers(0, 2**31))
def test_dual_norm_bounds_every_product(ball: Ball, case: Case, seed: int) -> None:
    gradients, infos = case
    generator = torch.Generator().manual_seed(seed)
    other = [torch.randn(g.shape, generator=generator, dtype=torch.float64) for g in gradients]
    bound = float(ball.norm(other, infos)) * float(ball.dual_norm(gradients, infos))
    assert abs(pairing(gradients, other)) <= bound * (1 + ROUNDING[gradients[0].dtype])


@every_ball
@PROPERTY
@given(case=cases())
def test_atom_keeps_shape_dtype_and_gradient(ball: Ball, case: Case) -> None:
    gradients, infos = case
    before = [gradient.clone() for gradient in gradients]
    for atom, gradient, copy in zip(ball.lmo(gradients, infos), gradients, before, strict=True):
        assert (atom.shape, atom.dtype, atom.device) == (
            gradient.shape,
            gradient.dtype,
            gradient.device,
        )
        assert atom.data_ptr() != gradient.data_ptr()
        assert torch.equal(gradient, copy)


@every_ball
@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
@PROPERTY
@given(case=cases())
def test_atom_depends_on_the_direction_alone(ball: Ball, case: Case, scale: float) -> None:
    atom = ball.lmo(case.gradients, case.infos)
    scaled = ball.lmo([gradient * scale for gradient in case.gradients], case.infos)
    # A power of two only moves exponents: every intermediate result scales without rounding.
    assert all(torch.equal(x, y) for x, y in zip(atom, scaled, strict=True))


@every_ball
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("radius", [1e-6, 100.0])
def test_zero_gradient_has_the_zero_atom(ball: Ball, dtype: torch.dtype, radius: float) -> None:
    shapes = ((), (300,), (12, 3), (3, 12), (2, 3, 4))
    gradients = [torch.zeros(shape, dtype=dtype) for shape in shapes]
    infos = [ParameterInfo(f"{index % 3}.weight") for index in range(len(shapes))]
    for atom in replace(ball, radius=radius).lmo(gradients, infos):
        assert torch.equal(atom, torch.zeros_like(atom))
