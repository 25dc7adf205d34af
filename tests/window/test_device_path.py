"""The path of accelerators, where scalars stay tensors: run on the host, it must agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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
    RMSBall,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw import displacement as displacement_module
from lightning_fw import scalars as scalars_module
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
INFOS = [ParameterInfo("weight", 0), ParameterInfo("bias", 1), ParameterInfo("head", 1)]


class ForbidReading(TorchDispatchMode):
    """Raises where a number is read off a tensor, which stalls an accelerator."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} reads the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def keep_scalars_as_tensors(monkeypatch):
    def force():
        for module in (scalars_module, displacement_module):
            monkeypatch.setattr(module, "on_host", lambda device: False)

    return force


def train(loop: InnerLoop, windows: int, poisoned: int | None, reads_are_errors: bool):
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4,), (2, 4)]
    weights = [
        nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes
    ]
    window = Window(loop, weights, INFOS)
    outer = torch.optim.SGD(weights, lr=0.1)
    records = []
    for attempt in range(windows * loop.steps):
        with window.displaced():
            loss = sum((p - 0.5).cosh().sum() for p in weights)
            loss.backward()
        if attempt == poisoned:
            weights[0].grad[0, 0] = float("inf")
        if attempt == 7:
            weights[1].grad = None
        if reads_are_errors:
            with ForbidReading():
                window.step(loss)
        else:
            window.step(loss)
        if window.is_full:
            records.append(window.close())
            outer.step()
    return weights, records


@pytest.mark.parametrize("poisoned", [None, 3, 4, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_tensor_scalars_give_what_float_scalars_give(loop, poisoned, keep_scalars_as_tensors):
    expected, records = train(loop, 4, poisoned, reads_are_errors=False)
    keep_scalars_as_tensors()
    found, found_records = train(loop, 4, poisoned, reads_are_errors=True)
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-9)
    for record, other in zip(found_records, records, strict=True):
        assert (record.steps, record.skipped) == (other.steps, other.skipped)
        assert record.radius == pytest.approx(other.radius, rel=1e-6)
        for name in ("gap_first", "gap_last", "loss_first", "loss_last", "ball_usage", "cosine"):
            mine, theirs = getattr(record, name), getattr(other, name)
            assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-9, nan_ok=True), name
        assert record.slope_ratio == pytest.approx(other.slope_ratio, rel=1e-5, nan_ok=True)
