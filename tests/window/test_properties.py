"""Properties of a window for any gradients, step sizes, dtypes and scales."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_fw import (
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NoiseFloor,
    NuclearBall,
    OpenLoop,
    ProductBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.balls import Ball
from lightning_fw.parameters import ParameterInfo
from lightning_fw.step_sizes import StepSize
from lightning_fw.window import Window

BALLS: list[Ball] = [
    L1Ball(radius=0.5),
    L2Ball(radius=0.5),
    L2Ball(radius=0.5, scope="group"),
    L2Ball(radius=0.5, scope="global"),
    RMSBall(radius=0.5, scope="global"),
    LinfBall(radius=0.5),
    LpBall(3.0, radius=0.5, scope="global"),
    SpectralBall(radius=0.5, scale_by_shape=True),
    RowBall(radius=0.5),
    NuclearBall(radius=0.5),
    ProductBall({"a": LinfBall(radius=0.3), "*": L2Ball(radius=0.5, scope="global")}),
]
INFOS = [ParameterInfo("a", 0), ParameterInfo("b", 0), ParameterInfo("c", 1)]
SHAPES = [(4, 3), (4,), (2, 4)]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@dataclass(frozen=True)
class Listed(StepSize):
    """γ_k from a list."""

    gammas: tuple[float, ...]

    def __call__(self, k, gap, squared_distance):
        return self.gammas[int(k) - 1]


def random_gradients(seed: int, dtype: torch.dtype, scale: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(s, generator=generator, dtype=torch.float64) for s in SHAPES]


def run(loop: InnerLoop, seed: int, dtype: torch.dtype, presence, scale: float = 1.0):
    """A window over random gradients; where ``presence`` says no, a parameter gets none."""
    weights = [nn.Parameter(torch.zeros(s, dtype=dtype)) for s in SHAPES]
    window = Window(loop, weights, INFOS)
    for step, present in enumerate(presence):
        gradients = random_gradients(seed + step, dtype, scale)
        for p, gradient, there in zip(weights, gradients, present, strict=True):
            p.grad = gradient.to(dtype) if there else None
        window.step(last=step == len(presence) - 1)
    return window, weights


presences = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any), min_size=1, max_size=6
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
@settings(max_examples=15)
@given(presence=presences, data=st.data(), seed=st.integers(0, 10**6))
def test_displacements_stay_in_the_ball_for_every_step_size(ball, dtype, presence, data, seed):
    gammas = data.draw(st.tuples(*[st.floats(0, 1)] * len(presence)))
    loop = InnerLoop(
        ball=ball, steps=len(presence), step_size=Listed(gammas), direction="displacement"
    )
    window, weights = run(loop, seed, dtype, presence)
    window.close()
    displacement = [torch.zeros_like(p) if p.grad is None else -p.grad for p in weights]
    assert bool(ball.contains(displacement, INFOS))


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
@settings(max_examples=15)
@given(presence=presences, seed=st.integers(0, 10**6))
def test_the_gap_is_never_negative(ball, presence, seed):
    loop = InnerLoop(ball=ball, steps=len(presence), step_size=OpenLoop(), momentum=0.5)
    window, _ = run(loop, seed, torch.float32, presence)
    record = window.close()
    assert record.gap_first >= 0
    assert record.gap_last >= 0


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
@settings(max_examples=8)
@given(power=st.sampled_from([-20, -7, 7, 20]), seed=st.integers(0, 10**6))
def test_the_scale_of_the_loss_changes_nothing(ball, dtype, power, seed):
    loop = InnerLoop(ball=ball, steps=3, step_size=OpenLoop())
    presence = [(True, True, True)] * 3
    directions = []
    for scale in (1.0, 2.0**power):
        window, weights = run(loop, seed, dtype, presence, scale)
        window.close()
        directions.append([p.grad for p in weights])
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    for one, other in zip(*directions, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
def test_the_noise_floor_knows_noise_in_every_ball(ball):
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.zeros(s)) for s in ((60, 60), (300,), (60, 60))]
    for noisy in (True, False):
        window = Window(InnerLoop(ball=ball, steps=50, restart_when=NoiseFloor()), weights, INFOS)
        fixed = [torch.randn(p.shape, generator=generator) for p in weights]
        for _ in range(6):
            for p, gradient in zip(weights, fixed, strict=True):
                p.grad = torch.randn(p.shape, generator=generator) if noisy else gradient.clone()
            window.step()
        assert window.wants_restart() == noisy
