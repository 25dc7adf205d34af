"""Radii that set themselves, against design and formula followed step by step in NumPy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, OpenLoop, SlopeRatio
from lightning_fw.window import Window

STEPS, WINDOWS, MOMENTUM = 3, 12, 0.9
RULE = SlopeRatio(target=0.6, rate=0.3, early_rate=0.8, decay=0.8, minimum=0.05, maximum=2.0)
RADIUS = 0.2
ONE, TWO = (slice(0, 5),), (slice(0, 2), slice(2, 5))
EVEN, STEEPER = np.arange(1.0, 6.0), np.array([0.1, 0.2, 3.0, 4.0, 5.0])
# The rule keeps float32, and 12 windows amplify its rounding; ratios of sums near 0 yet more.
CLOSE = 1e-5


class Run(NamedTuple):
    """Weights and radii after all windows, and each window's radius and ratio."""

    weights: np.ndarray
    own: list[float]
    radii: list[float]
    ratios: list[float]


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(WINDOWS, STEPS, 5))


def gradient(w: np.ndarray, noise: np.ndarray, steepness: np.ndarray) -> np.ndarray:
    """Of ½ Σ c_i (w_i − 1)² on a mini-batch."""
    return steepness * (w - 1) + 0.3 * noise


def reference(
    rule: SlopeRatio, tensors: tuple[slice, ...], steepness: np.ndarray, *, nesterov: bool = False
) -> Run:
    w, m, velocity, count = np.zeros(5), np.zeros(5), np.zeros(5), len(tensors)
    deltas, average_a, average_b = [RADIUS] * count, [0.0] * count, [0.0] * count
    atom = None
    radii, ratios = [], []

    def change(a: float, b: float) -> tuple[float, float]:
        return -b / abs(a), min(max(2 * (rule.target * a - b) / abs(a), -1), 1)

    for samples in noise():
        radii.append(math.prod(deltas) ** (1 / count))
        d, a, b = np.zeros(5), None, None
        for k, sample in enumerate(samples, start=1):
            g = gradient(w + d, sample, steepness)
            if atom is not None and k == 1:
                a = [g[i] @ atom[i] for i in tensors]
            if k == STEPS:
                b = [g[i] @ atom[i] for i in tensors]
            m = MOMENTUM * m + (1 - MOMENTUM) * g
            n = MOMENTUM * m + (1 - MOMENTUM) * g if nesterov else m
            atom = np.concatenate([-n[i] / np.linalg.norm(n[i]) for i in tensors])
            gamma = 2 / (k + 1)
            for i, delta in zip(tensors, deltas, strict=True):
                d[i] = (1 - gamma) * d[i] + gamma * delta * atom[i]
        if a is not None:
            average_a = [rule.decay * A + (1 - rule.decay) * x for A, x in zip(average_a, a)]
            average_b = [rule.decay * B + (1 - rule.decay) * x for B, x in zip(average_b, b)]
            r, common = change(sum(average_a), sum(average_b))
            rate = max(rule.rate, rule.early_rate / math.sqrt(len(ratios) + 1))
            for i in range(count):
                _, own = change(average_a[i], average_b[i])
                step = rule.own_share * own + (1 - rule.own_share) * common
                deltas[i] = min(max(deltas[i] * math.exp(rate * step), rule.minimum), rule.maximum)
            ratios.append(r)
        velocity = 0.5 * velocity - d
        w = w - (-d + 0.5 * velocity)
    return Run(w, deltas, radii, ratios)


def trained(
    rule: SlopeRatio, tensors: tuple[slice, ...], steepness: np.ndarray, *, nesterov: bool = False
) -> Run:
    weights = [nn.Parameter(torch.zeros(5, dtype=torch.float64)[i]) for i in tensors]
    loop = InnerLoop(
        ball=L2Ball(radius=RADIUS),
        steps=STEPS,
        step_size=OpenLoop(),
        momentum=MOMENTUM,
        nesterov=nesterov,
        radius_rule=rule,
        direction="displacement",
    )
    window, outer = Window(loop, weights), loop.outer(weights)
    radii, ratios = [], []
    for samples in noise():
        for sample in samples:
            with window.displaced():
                w = torch.cat([weight.detach() for weight in weights]).numpy()
                g = gradient(w, sample, steepness)
                for weight, i in zip(weights, tensors, strict=True):
                    weight.grad = torch.from_numpy(g[i])
            window.step()
        record = window.close()
        outer.step()
        radii.append(record.radius)
        ratios.append(record.slope_ratio)
    own = window.state_dict()["slopes"]["radius"]["radius"]
    return Run(torch.cat(weights).detach().numpy(), own.tolist(), radii, ratios)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("own_share", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(("tensors", "steepness"), [(ONE, EVEN), (TWO, STEEPER)])
def test_radii_slopes_and_weights_follow_the_formula(tensors, steepness, own_share, nesterov):
    rule = replace(RULE, own_share=own_share)
    found, known = (
        run(rule, tensors, steepness, nesterov=nesterov) for run in (trained, reference)
    )
    assert len(set(known.radii)) > 6, "the radius should move in both directions"
    assert found.radii == pytest.approx(known.radii, rel=CLOSE)
    assert math.isnan(found.ratios[0])
    assert found.ratios[1:] == pytest.approx(known.ratios, rel=10 * CLOSE, abs=5e-5)
    np.testing.assert_allclose(found.weights, known.weights, rtol=CLOSE)
    radii = known.own if own_share else known.own[:1]
    assert found.own == pytest.approx(radii, rel=CLOSE)
    if own_share and len(tensors) == 2:
        assert radii[1] > 2 * radii[0], "the radii should part"


def test_a_vanishing_share_is_one_radius_for_all():
    known = trained(RULE, TWO, STEEPER)
    found = trained(replace(RULE, own_share=1e-9), TWO, STEEPER)
    np.testing.assert_allclose(found.weights, known.weights, rtol=CLOSE)
    assert found.radii == pytest.approx(known.radii, rel=CLOSE)
    assert found.own == pytest.approx(known.own * 2, rel=CLOSE)


def test_a_slope_of_zero_at_the_anchor_has_no_ratio():
    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), steps=2, radius_rule=SlopeRatio()), [weight])
    right, up = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    records = []
    for gradients in ((right, right), (up, up)):
        for gradient_here in gradients:
            with window.displaced():
                weight.grad = gradient_here.clone()
            window.step()
        records.append(window.close())
    assert [math.isnan(record.slope_ratio) for record in records] == [True, True]
    assert window.radius > 0.1, "the loss still falls at the end"
