"""A radius that sets itself, against design and formula followed step by step in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, OpenLoop, SlopeRatio
from lightning_fw.window import Window

STEPS, WINDOWS, MOMENTUM = 3, 12, 0.9
RULE = SlopeRatio(target=0.6, rate=0.3, early_rate=0.8, decay=0.8, minimum=0.05, maximum=2.0)
RADIUS = 0.2


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(WINDOWS, STEPS, 5))


def gradient(w: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Of ½ Σ i (w_i − 1)² on a mini-batch."""
    return np.arange(1, 6) * (w - 1) + 0.3 * noise


def reference() -> tuple[np.ndarray, list[float], list[float]]:
    """Weights, radii and ratios after all windows."""
    w, m, velocity = np.zeros(5), np.zeros(5), np.zeros(5)
    delta, average_a, average_b = RADIUS, 0.0, 0.0
    atom = None
    radii, ratios = [], []
    for samples in noise():
        radii.append(delta)
        d, a, b = np.zeros(5), None, None
        for k, sample in enumerate(samples, start=1):
            g = gradient(w + d, sample)
            if atom is not None and k == 1:
                a = g @ atom
            if k == STEPS:
                b = g @ atom
            m = MOMENTUM * m + (1 - MOMENTUM) * g
            atom = -m / np.linalg.norm(m)
            gamma = 2 / (k + 1)
            d = (1 - gamma) * d + gamma * delta * atom
        if a is not None:
            average_a = RULE.decay * average_a + (1 - RULE.decay) * a
            average_b = RULE.decay * average_b + (1 - RULE.decay) * b
            r = average_b / average_a if average_a < 0 else -1.0
            step = min(max(2 * (r - RULE.target), -1), 1)
            rate = max(RULE.rate, RULE.early_rate / math.sqrt(len(ratios) + 1))
            delta = min(max(delta * math.exp(rate * step), RULE.minimum), RULE.maximum)
            ratios.append(r)
        velocity = 0.5 * velocity - d
        w = w - (-d + 0.5 * velocity)
    return w, radii, ratios


def trained() -> tuple[nn.Parameter, list[float], list[float]]:
    weight = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    loop = InnerLoop(
        ball=L2Ball(radius=RADIUS),
        steps=STEPS,
        step_size=OpenLoop(),
        momentum=MOMENTUM,
        radius_rule=RULE,
        direction="displacement",
    )
    window, outer = Window(loop, [weight]), loop.outer([weight])
    radii, ratios = [], []
    for samples in noise():
        for sample in samples:
            with window.displaced():
                weight.grad = torch.from_numpy(gradient(weight.detach().numpy(), sample))
            window.step()
        record = window.close()
        outer.step()
        radii.append(record.radius)
        ratios.append(record.slope_ratio)
    return weight, radii, ratios


def test_radius_slopes_and_weights_follow_the_formula():
    (weight, radii, ratios), (expected, known_radii, known_ratios) = trained(), reference()
    assert len(set(known_radii)) > 6, "the radius should move in both directions"
    assert radii == pytest.approx(known_radii, rel=1e-6)
    assert math.isnan(ratios[0])
    assert ratios[1:] == pytest.approx(known_ratios, rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(weight.detach().numpy(), expected, rtol=1e-6)
