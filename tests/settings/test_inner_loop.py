"""InnerLoop: what it accepts, and what its presets are."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch

from lightning_fw import (
    CosineDecay,
    Harmonic,
    InnerLoop,
    L2Ball,
    OpenLoop,
    ProductBall,
    RMSBall,
    SlopeRatio,
    SpectralBall,
)


def test_alone_it_is_the_papers():
    assert InnerLoop() == InnerLoop.paper()
    assert InnerLoop().ball == L2Ball(radius=1e-2, scope="tensor")
    assert (InnerLoop().steps, InnerLoop().step_size) == (5, Harmonic())


def test_the_authors_preset_has_one_number():
    loop = InnerLoop.authors(3e-4)
    assert loop.trajectory == "cumulative"
    assert loop.ball.radius == 3e-4
    weight = torch.nn.Parameter(torch.zeros(2))
    assert loop.outer([weight]).param_groups[0]["lr"] == 3e-4


def test_the_optimizer_of_a_product_ball_lands_where_the_window_ended():
    ball = ProductBall({"*": L2Ball(radius=1e-2)}, radius=0.5)
    outer = InnerLoop(ball=ball).outer([torch.nn.Parameter(torch.zeros(3))])
    assert isinstance(outer, torch.optim.SGD)
    assert outer.defaults["lr"] == 0.5


def test_the_spectral_preset_comes_with_its_outer_optimizer():
    loop = InnerLoop.spectral()
    assert isinstance(loop.ball, SpectralBall) and loop.ball.scale_by_shape
    assert (loop.steps, loop.step_size) == (2, OpenLoop())
    assert (loop.momentum, loop.recurrent_momentum, loop.nesterov) == (0.9, 0.8, True)
    ball = loop.ball
    assert (ball.gate_radius, ball.head_radius, ball.vector_radius) == (3.0, 2.5, 0.1)
    assert (ball.input_radius, ball.input_power, ball.input_limit) == (12.0, 0.8, 3.0)
    assert ball.symbol_radius == 2.25
    rule = SlopeRatio(
        target=-0.5, early_rate=0.3, decay=0.9, own_share=0.4, minimum=4e-3, maximum=0.05
    )
    assert (loop.ball.radius, loop.radius_rule) == (0.015, rule)
    assert loop.direction == "displacement"
    outer = loop.outer([{"params": [torch.nn.Parameter(torch.zeros(2))]}])
    assert isinstance(outer, torch.optim.SGD)
    group = outer.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (1.0, 0.5, True)


def test_it_is_frozen_keyword_only_and_can_be_pickled():
    loop = InnerLoop.spectral()
    with pytest.raises(dataclasses.FrozenInstanceError):
        loop.steps = 4
    with pytest.raises(TypeError):
        InnerLoop(L2Ball())
    assert pickle.loads(pickle.dumps(loop)) == loop


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"ball": 0.1}, TypeError, r"`ball` must be a Ball, got 0.1. Pass one such as L2Ball"),
        ({"ball": L2Ball}, TypeError, "`ball` must be a Ball, got <class"),
        ({"steps": 0}, ValueError, "`steps` must be at least 1, got 0. Pass steps >= 1"),
        ({"steps": 2.0}, TypeError, "`steps` must be an int, got 2.0"),
        ({"steps": True}, TypeError, "`steps` must be an int, got True"),
        ({"step_size": 0.1}, TypeError, r"`step_size` must be a StepSize, got 0.1.*Harmonic\(\)"),
        ({"batches": "some"}, ValueError, "`batches` must be one of 'successive', 'same', 'split'"),
        ({"trajectory": "x"}, ValueError, "`trajectory` must be one of 'anchored', 'cumu"),
        ({"direction": None}, ValueError, "`direction` must be one of 'unit', 'displacement', got"),
        ({"momentum": 1.0}, ValueError, r"`momentum` must be in \[0, 1\), got 1.0"),
        (
            {"nesterov": "yes"},
            TypeError,
            "`nesterov` must be a bool, got 'yes'. Pass True or False",
        ),
        ({"nesterov": True}, ValueError, "`nesterov` must be False without momentum, got True"),
        ({"whitening": False}, TypeError, "number, got False. Pass a Python float, or None."),
        ({"whitening": 1.0}, ValueError, "got 1.0. Pass 0 <= whitening < 1, or None."),
        (
            {"momentum": 0.9, "recurrent_momentum": 1.0},
            ValueError,
            r"`recurrent_momentum` must be in \[0, 1\), got 1.0. Pass 0 <= recurrent_momentum < 1",
        ),
        (
            {"momentum": 0.9, "recurrent_momentum": "0.8"},
            TypeError,
            "`recurrent_momentum` must be a number, got '0.8'",
        ),
        (
            {"recurrent_momentum": 0.8},
            ValueError,
            "`recurrent_momentum` must be None without momentum, got 0.8. Pass momentum=0.9",
        ),
        (
            {"recurrent_momentum": 0.0},
            ValueError,
            "`recurrent_momentum` must be None without momentum, got 0.0. Pass momentum=0.9",
        ),
        ({"momentum": float("nan")}, ValueError, r"`momentum` must be in \[0, 1\), got nan"),
        ({"restart_when": 0.1}, TypeError, r"`restart_when` must be a RestartRule, got 0.1"),
        ({"radius_rule": 0.1}, TypeError, "`radius_rule` must be None, a schedule or SlopeRatio"),
        *(
            (
                {"radius_rule": SlopeRatio(own_share=0.25), "ball": ball},
                ValueError,
                r'`ball` must have scope="tensor" with SlopeRatio\(own_share=0.25\), got .*Ball\(.*'
                r'Pass scope="tensor" or own_share=0.',
            )
            for ball in (
                L2Ball(scope="global"),
                RMSBall(scope="group"),
                ProductBall({"a": SpectralBall(), "*": L2Ball(scope="global")}),
            )
        ),
        (
            {"radius_rule": SlopeRatio(), "steps": 1},
            ValueError,
            "`steps` must be at least 2 with SlopeRatio, got 1",
        ),
        (
            {"radius_rule": SlopeRatio(), "trajectory": "fixed"},
            ValueError,
            '`trajectory` must be "anchored" or "cumulative" with SlopeRatio, got "fixed"',
        ),
        (
            {"radius_rule": SlopeRatio(), "batches": "same"},
            ValueError,
            '`batches` must be "successive" or "split" with SlopeRatio, got "same"',
        ),
    ],
)
def test_a_wrong_setting_is_named(settings, error, message):
    with pytest.raises(error, match=message):
        InnerLoop(**settings)


@pytest.mark.parametrize("radius", [0.1, 1.0])
def test_a_radius_may_start_at_an_end_of_its_range(radius):
    rule = SlopeRatio(minimum=0.1, maximum=1.0)
    assert InnerLoop(ball=L2Ball(radius=radius), radius_rule=rule).radius_rule is rule


def test_tensors_have_radii_of_their_own_where_they_have_balls_of_their_own():
    rule = SlopeRatio(own_share=0.25)
    balls = (SpectralBall(), L2Ball(), ProductBall({"*": L2Ball()}, radius=0.5))
    assert all(InnerLoop(ball=ball, radius_rule=rule).ball is ball for ball in balls)
    InnerLoop(ball=L2Ball(scope="global"), radius_rule=SlopeRatio())


def test_any_callable_is_a_schedule():
    assert InnerLoop(radius_rule=CosineDecay(total_steps=10)).radius_rule(0) == 1.0
    InnerLoop(radius_rule=lambda outer_step: 0.5)
