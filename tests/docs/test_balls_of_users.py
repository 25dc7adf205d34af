"""The balls that pages and examples write hold what the package's own are tested for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fw.balls import Ball
from tests.balls.cases import PROPERTY, ROUNDING, Case, cases, pairing

from .run_page import blocks

ROOT = Path(__file__).parents[2]


def _of_the_page() -> Ball:
    namespace: dict[str, object] = {}
    first = next(blocks((ROOT / "docs/extending.md").read_text()))
    exec(first.code, namespace)
    return namespace["MyL2Ball"](radius=0.3)


def _of_the_example() -> Ball:
    namespace: dict[str, object] = {}
    until_it_is_checked = (ROOT / "examples/your_own_ball.py").read_text().partition("# %%")[0]
    exec(until_it_is_checked, namespace)
    return namespace["ColumnBall"](radius=0.3)


BALLS = [_of_the_page(), _of_the_example()]
some_cases = cases(dtypes=(torch.float64, torch.float32))


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
@PROPERTY
@given(case=some_cases, seed=st.integers(0, 2**31))
def test_an_atom_is_feasible_and_no_point_of_the_ball_is_better(
    ball: Ball, case: Case, seed: int
) -> None:
    gradients, infos = case
    atom, rounding = ball.lmo(gradients, infos), ROUNDING[gradients[0].dtype]
    value = pairing(gradients, atom)
    assert ball.contains(atom, infos)
    least = -ball.radius * float(ball.dual_norm(gradients, infos))
    assert value == pytest.approx(least, rel=rounding)
    generator = torch.Generator().manual_seed(seed)
    for lean in (0.0, 4.0):
        point = [
            torch.randn(g.shape, generator=generator, dtype=torch.float64)
            - lean * g.double() / g.abs().max().clamp_min(1e-30)
            for g in gradients
        ]
        length = float(ball.norm(point, infos))
        inside = [x * (ball.radius / length) for x in point]
        assert value <= pairing(gradients, inside) + rounding * abs(value)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
@PROPERTY
@given(case=some_cases)
def test_norms_are_even_and_homogeneous(ball: Ball, case: Case) -> None:
    gradients, infos = case
    for norm in (ball.norm, ball.dual_norm):
        tripled = float(norm([-3 * g for g in gradients], infos))
        assert tripled == pytest.approx(3 * float(norm(gradients, infos)), rel=1e-5)
