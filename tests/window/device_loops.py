"""Inner loops that must go the same way wherever their scalars live, and a run of each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import nn

from lightning_fw import (
    ConstantStep,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    OpenLoop,
    ProductBall,
    RestartRecord,
    RMSBall,
    RowBall,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window

LOOPS = [
    InnerLoop(ball=ball, steps=3, **settings)
    for ball in (
        L1Ball(radius=0.1),
        L2Ball(radius=0.1),
        L2Ball(radius=0.1, scope="global"),
        RMSBall(radius=0.1, scope="group"),
        LinfBall(radius=0.1),
        LpBall(3.0, radius=0.1),
        SpectralBall(radius=0.1),
        RowBall(radius=0.1),
        NuclearBall(radius=0.1),
        ProductBall({"bias": LinfBall(radius=0.01), "*": L2Ball(radius=0.1)}),
    )
    for settings in (
        {},
        {
            "momentum": 0.9,
            "step_size": OpenLoop(),
            "radius_rule": SlopeRatio(),
            "direction": "displacement",
        },
    )
] + [
    InnerLoop(steps=3, step_size=ShortStep(10.0)),
    InnerLoop(steps=3, step_size=ConstantStep(0.5), trajectory="cumulative"),
]
OWN_RADII = SlopeRatio(own_share=0.5, rate=0.3)
LOOPS += [
    InnerLoop(ball=ball, steps=3, radius_rule=OWN_RADII, **settings)
    for ball in (L2Ball(radius=0.1), SpectralBall(radius=0.1))
    for settings in ({"momentum": 0.9, "nesterov": True}, {"step_size": ShortStep(10.0)})
]
LOOPS += [InnerLoop(ball=SpectralBall(radius=0.1), steps=3, momentum=0.9, whitening=0.9)]
INFOS = [
    ParameterInfo("weight_ih", 0, gates=2),
    ParameterInfo("bias", 1),
    ParameterInfo("head", 1),
    ParameterInfo("weight_hh", 0, gates=2),
]


def train(
    loop: InnerLoop,
    windows: int,
    poisoned: int | None,
    guard: Callable[[], AbstractContextManager[object]] = nullcontext,
    device: str = "cpu",
) -> tuple[list[nn.Parameter], list[RestartRecord]]:
    """Train by windows on a smooth loss; inner steps and what leads to them are guarded."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4,), (2, 4), (4, 2)]
    weights = [
        nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(device))
        for s in shapes
    ]
    window = Window(loop, weights, INFOS)
    outer = torch.optim.SGD(weights, lr=0.1)
    records = []
    for attempt in range(windows * loop.steps):
        with guard(), window.displaced():
            loss = sum((p - 0.5).cosh().sum() for p in weights)
            loss.backward()
        if attempt == poisoned:
            weights[0].grad[0, 0] = float("inf")
        if attempt == 7:
            weights[1].grad = None
        if attempt == 4:
            weights[3].grad = None
        with guard():
            window.step(loss)
        if window.is_full:
            records.append(window.close())
            outer.step()
    return weights, records


def trained_through_trouble(
    loop: InnerLoop, statistics: bool, *, told: bool = True, device: str = "cuda"
) -> tuple[list[nn.Parameter], list[RestartRecord]]:
    """Windows of several lengths, with gradients that are missing or not finite."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 3), (8,), (2, 8), (8, 4)]
    weights = [
        nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64).to(device))
        for s in shapes
    ]
    window = Window(loop, weights, INFOS, statistics=statistics)
    outer, records = torch.optim.SGD(weights, lr=0.05), []
    for batch in range(60):
        with window.displaced():
            target = torch.randn(8, 1, 1, generator=generator, dtype=torch.float64).to(device)
            loss = sum((p - target).cosh().mean() for p in weights)
            loss.backward()
        if batch in (17, 31, 32, *range(45, 50)):
            weights[0].grad.fill_(float("nan"))
        if batch in (23, 36):
            weights[1].grad = None
        if batch in (24, 36):
            weights[3].grad = None
        window.step(loss if batch % 11 else None)
        if window.is_full or batch in (21, 44):
            if told:
                records.append(window.close(early=not window.is_full))
            else:
                window.close_untold()
            if window.has_direction:
                outer.step()
        if batch == 40:
            state = window.state_dict()
            window = Window(loop, weights, INFOS, statistics=statistics)
            window.load_state_dict(state)
    return weights, records


def assert_same_way(
    found: tuple[list[nn.Parameter], list[RestartRecord]],
    expected: tuple[list[nn.Parameter], list[RestartRecord]],
) -> None:
    """Weights and records agree, up to the rounding of sums in another order."""
    for p, q in zip(found[0], expected[0], strict=True):
        torch.testing.assert_close(p.cpu(), q, rtol=1e-6, atol=1e-8)
    for record, other in zip(found[1], expected[1], strict=True):
        assert (record.steps, record.skipped) == (other.steps, other.skipped)
        assert record.radius == pytest.approx(other.radius, rel=1e-6)
        for name in ("gap_first", "gap_last", "loss_first", "loss_last", "ball_usage", "cosine"):
            mine, theirs = getattr(record, name), getattr(other, name)
            assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-9, nan_ok=True), name
        assert record.slope_ratio == pytest.approx(other.slope_ratio, rel=1e-5, nan_ok=True)
