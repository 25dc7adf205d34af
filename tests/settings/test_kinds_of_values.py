"""A setting of the wrong kind is named when it is made, not where it is first used."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from lightning_fw import (
    AnchorAveraging,
    ConstantStep,
    CosineDecay,
    FWRestartMonitor,
    GapFraction,
    InnerLoop,
    L2Ball,
    LinearDecay,
    NoiseFloor,
    PowerDecay,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw.data import PennTreebank, SequentialMNIST
from lightning_fw.nn import FastRNN, IndRNN, IndRNNStack, SequenceClassifier, SequenceRegressor
from lightning_fw.radius_rules import scheduled_radius
from lightning_fw.step_sizes import StepSize
from lightning_fw.window import Window

SIZES = {"input_size": 2, "output_size": 3}

MAKERS = {
    "momentum": lambda value: InnerLoop(momentum=value),
    "fraction": GapFraction,
    "factor": NoiseFloor,
    "gamma": ConstantStep,
    "lipschitz": ShortStep,
    "power": PowerDecay,
    "timescale": lambda value: PowerDecay(timescale=value),
    "end": lambda value: LinearDecay(total_steps=2, end=value),
    "target": lambda value: SlopeRatio(target=value),
    "rate": lambda value: SlopeRatio(rate=value),
    "early_rate": lambda value: SlopeRatio(early_rate=value),
    "decay": lambda value: SlopeRatio(decay=value),
    "own_share": lambda value: SlopeRatio(own_share=value),
    "minimum": lambda value: SlopeRatio(minimum=value),
    "maximum": lambda value: SlopeRatio(maximum=value),
    "lr": InnerLoop.authors,
}


@pytest.mark.parametrize("value", ["x", None, True, torch.tensor(0.5)])
@pytest.mark.parametrize("name", MAKERS)
def test_a_number_is_a_number(name, value):
    with pytest.raises(TypeError, match=f"`{name}` must be a number, got "):
        MAKERS[name](value)


@pytest.mark.parametrize("value", [2.5, "x", None, True])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("steps", lambda value: InnerLoop(steps=value)),
        ("accumulate_grad_batches", lambda value: InnerLoop(accumulate_grad_batches=value)),
        ("total_steps", CosineDecay),
        ("total_steps", LinearDecay),
    ],
)
def test_a_count_is_an_int(name, make, value):
    with pytest.raises(TypeError, match=f"`{name}` must be an int, got "):
        make(value)


FLAGS = {
    "nesterov": lambda value: InnerLoop(nesterov=value),
    "split_gates": lambda value: SpectralBall(split_gates=value),
    "scale_by_shape": lambda value: SpectralBall(scale_by_shape=value),
    "table": lambda value: FWRestartMonitor(table=value),
    "use_buffers": lambda value: AnchorAveraging(use_buffers=value),
    "layer_norm": lambda value: SequenceRegressor(layer_norm=value, **SIZES),
    "bidirectional": lambda value: SequenceRegressor(bidirectional=value, **SIZES),
    "per_step": lambda value: SequenceClassifier(per_step=value, **SIZES),
    "batch_first": lambda value: FastRNN(2, 3, batch_first=value),
    "bias": lambda value: IndRNN(2, 3, bias=value),
    "batch_norm": lambda value: IndRNNStack(2, 3, batch_norm=value),
    "download": lambda value: SequentialMNIST("data", download=value),
    "batch_first of a stack": lambda value: IndRNNStack(2, 3, batch_first=value),
    "download of a text": lambda value: PennTreebank("data", download=value),
}


@pytest.mark.parametrize("value", ["False", None, 0])
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_true_or_false(name, value):
    with pytest.raises(TypeError, match=f"`{name.split()[0]}` must be a bool, got {value!r}"):
        FLAGS[name](value)


@pytest.mark.parametrize("rule", [SlopeRatio, CosineDecay, "cosine", 3])
def test_a_radius_rule_is_made_already(rule):
    with pytest.raises(TypeError, match="`radius_rule` must be None, a schedule or SlopeRatio"):
        InnerLoop(radius_rule=rule)


@pytest.mark.parametrize(
    ("factor", "error", "wanted"),
    [
        (0.0, ValueError, "factor > 0"),
        (float("nan"), ValueError, "factor > 0"),
        (float("inf"), ValueError, "factor > 0"),
        (True, TypeError, "Python number"),
        ("x", TypeError, "Python number"),
        (None, TypeError, "Python number"),
        (torch.tensor(0.5), TypeError, "Python number"),
    ],
)
def test_a_schedule_gives_a_factor(factor, error, wanted):
    with pytest.raises(error, match=rf"`radius_rule` must give a {wanted}, got .* step 3"):
        scheduled_radius(0.1, lambda step: factor, 3)


def test_a_step_size_may_be_numpys():
    class Numpys(StepSize):
        def __call__(self, k, gap, squared_distance):
            return np.float32(1 / k)

    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(step_size=Numpys(), steps=3), [weight])
    for _ in range(2):
        weight.grad = torch.ones(2)
        window.step()
    file = io.BytesIO()
    torch.save(window.state_dict(), file)
    file.seek(0)
    window.load_state_dict(torch.load(file, weights_only=True))
    assert window.close().ball_usage == pytest.approx(1)


def test_a_step_size_may_be_zero():
    class First(StepSize):
        def __call__(self, k, gap, squared_distance):
            return int(k == 1)

    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(step_size=First(), steps=2), [weight])
    for gradient in ([3.0, 4.0], [-1.0, 0.0]):
        weight.grad = torch.tensor(gradient)
        window.step()
    window.close()
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize(
    ("gamma", "error"),
    [
        (float("nan"), ValueError),
        (2.0, ValueError),
        (None, TypeError),
        (torch.tensor(2.0), ValueError),
    ],
)
def test_a_step_size_gives_a_share(gamma, error):
    class Wrong(StepSize):
        def __call__(self, k, gap, squared_distance):
            return gamma

    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(step_size=Wrong(), steps=2), [weight])
    weight.grad = torch.ones(2)
    with pytest.raises(
        error, match=r"`step_size` must give a number in \[0, 1\], got (nan|2.0|None)"
    ):
        window.step()


@pytest.mark.parametrize("radius", [1e-4, 5.0])
def test_slope_ratio_starts_at_the_balls_radius(radius):
    with pytest.raises(ValueError, match=f"`radius` must be between .* got {radius} outside"):
        InnerLoop(ball=L2Ball(radius=radius), radius_rule=SlopeRatio())
