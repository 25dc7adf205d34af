"""Restart rules, step sizes and schedules of the radius at work in a window."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from lightning_fw import (
    ConstantStep,
    GapFraction,
    Harmonic,
    InnerLoop,
    L2Ball,
    NoiseFloor,
    OpenLoop,
    RMSBall,
    ShortStep,
)
from lightning_fw.radius_rules import RadiusRule
from lightning_fw.restarts import RestartRule
from lightning_fw.window import Window
from tests.window.convex_loss import make_parameters, take_steps


def test_the_gap_closes_a_window_early():
    parameters = make_parameters()
    loop = InnerLoop(ball=L2Ball(radius=10.0), steps=500, restart_when=GapFraction(0.1))
    window = Window(loop, parameters)
    gaps = []
    while not window.wants_restart() and not window.is_full:
        take_steps(window, parameters, 1)
        gaps.append(window.statistics.gap_last)
    assert 1 < len(gaps) < 500
    assert gaps[-1] <= 0.1 * gaps[0] < gaps[-2]


@pytest.mark.parametrize("device_path", [False, True])
def test_a_skipped_first_step_leaves_the_rule_the_next_gap(device_path, monkeypatch):
    if device_path:
        for module in ("lightning_fw.tensors.scalars", "lightning_fw.window.displacement"):
            monkeypatch.setattr(f"{module}.on_host", lambda device: False)
    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(steps=9, restart_when=GapFraction(0.5)), [weight])
    wanted = []
    for gradient in ([float("nan"), 0.0], [1.0, 0.0], [0.0, 0.6], [0.0, 0.01]):
        weight.grad = torch.tensor(gradient)
        window.step()
        wanted.append(window.wants_restart())
    assert wanted == [False, False, False, True]


def test_a_rule_compares_with_the_first_gap_of_its_own_window():
    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(steps=9, restart_when=GapFraction(0.5)), [weight])
    wanted = []
    for scale in (1.0, 0.1):
        for gradient in ([1.0, 0.0], [0.0, 0.6], [0.0, 0.01]):
            weight.grad = scale * torch.tensor(gradient)
            window.step()
            wanted.append(window.wants_restart())
        window.close(early=True)
        window.drop_direction()
    assert wanted == 2 * [False, False, True]


def test_atoms_that_became_noise_close_a_window_early():
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(10_000))
    window = Window(InnerLoop(steps=50, restart_when=NoiseFloor()), [weight])
    while not window.wants_restart():
        weight.grad = torch.randn(10_000, generator=generator)
        window.step()
    assert window.k == 2
    agreeing = Window(InnerLoop(steps=50, restart_when=NoiseFloor()), [weight])
    for _ in range(10):
        weight.grad = torch.ones(10_000)
        agreeing.step()
        assert not agreeing.wants_restart()


@pytest.mark.parametrize("told", [None, "no", torch.tensor([True, False])])
def test_a_restart_rule_that_tells_neither_is_named(told):
    class Undecided(RestartRule):
        def __call__(self, progress):
            return told

    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(steps=9, restart_when=Undecided()), [weight])
    weight.grad = torch.ones(2)
    window.step()
    with pytest.raises(TypeError, match="`restart_when` must give True or False, got .* Undecided"):
        window.wants_restart()


@pytest.mark.parametrize("step_size", [Harmonic(), OpenLoop(), ConstantStep(0.3)], ids=str)
@pytest.mark.parametrize("ball", [L2Ball(radius=0.1), RMSBall(radius=0.1)], ids=str)
def test_atoms_at_right_angles_leave_the_displacement_at_the_noise(ball, step_size):
    @dataclass(frozen=True)
    class Watch(RestartRule):
        def __call__(self, progress):
            seen.append(progress)
            return False

    seen = []
    weights = [nn.Parameter(torch.zeros(9, dtype=torch.float64)) for _ in range(2)]
    window = Window(
        InnerLoop(ball=ball, steps=9, step_size=step_size, restart_when=Watch()), weights
    )
    for place in range(9):
        for weight in weights:
            weight.grad = torch.eye(9, dtype=torch.float64)[place]
        window.step()
        window.wants_restart()
    noise = [progress.noise for progress in seen]
    assert noise == pytest.approx([progress.length for progress in seen])
    first = step_size(1, None, None) * ball.lmo([weights[0].new_ones(9)])[0].norm() / 0.1
    assert noise[0] == pytest.approx(2**0.5 * float(first))


def test_a_short_step_counts_how_far_a_parameter_without_a_gradient_stands():
    first, second = (nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2))
    loop = InnerLoop(ball=L2Ball(radius=1.0), steps=2, step_size=ShortStep(7.0))
    window = Window(loop, [first, second])
    first.grad, second.grad = first.new_tensor([3.0, 0.0]), second.new_tensor([0.0, 4.0])
    window.step()  # γ = 7 / (7 · 2): to (−1/2, 0) and (0, −1/2)
    first.grad = first.new_tensor([0.0, 2.0])
    window.step()  # toward (0, −1) and (0, 0): a gap of 2, squared distances of 5/4 and 1/4
    window.close()
    gamma = 2 / (7 * (5 / 4 + 1 / 4))
    torch.testing.assert_close(first.grad, first.new_tensor([(1 - gamma) / 2, gamma]))
    torch.testing.assert_close(second.grad, second.new_tensor([0.0, (1 - gamma) / 2]))


@pytest.mark.parametrize("left", [math.inf, math.nan])
def test_a_short_step_does_not_see_what_became_of_the_direction_before(left):
    weight = torch.nn.Parameter(torch.zeros(4))
    window = Window(InnerLoop(steps=2, step_size=ShortStep(10.0)), [weight])
    directions = []
    for _ in range(2):
        for _ in range(2):
            window.drop_direction()
            weight.grad = torch.tensor([1.0, 2.0, 0.0, -1.0])
            window.step()
        window.close()
        directions.append(weight.grad.clone())
        weight.grad.fill_(left)
    assert torch.equal(*directions)
    assert directions[0].isfinite().all()


def test_a_short_step_minimizes_a_quadratic_along_the_way():
    weight = nn.Parameter(torch.tensor([0.3, 0.0], dtype=torch.float64))
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1, step_size=ShortStep(2.0)), [weight])
    weight.square().sum().backward()
    window.step()
    window.close()
    torch.optim.SGD([weight], lr=1.0).step()
    torch.testing.assert_close(weight.detach(), torch.zeros(2, dtype=torch.float64))


def test_a_sum_of_displacements_outlasts_a_step_that_forgets_them():
    weight = nn.Parameter(torch.zeros(2))
    loop = InnerLoop(
        ball=L2Ball(radius=1.0), steps=3, step_size=ConstantStep(1.0), trajectory="cumulative"
    )
    window = Window(loop, [weight])
    for gradient in ([1.0, 0.0], [0.0, 2.0]):
        weight.grad = torch.tensor(gradient)
        window.step()
    with window.displaced():
        torch.testing.assert_close(weight.detach(), torch.tensor([-1.0, -1.0]))


def test_steps_that_all_but_forget_those_before_leave_the_range_of_no_number():
    weight = nn.Parameter(torch.zeros(2))
    loop = InnerLoop(ball=L2Ball(radius=1.0), steps=40, step_size=ConstantStep(0.99))
    window = Window(loop, [weight])
    for gradient in (*39 * [[1.0, 0.0]], [0.0, 2.0]):
        weight.grad = torch.tensor(gradient)
        window.step()
    window.close()
    torch.testing.assert_close(weight.grad, torch.tensor([0.01, 0.99]))


def test_a_schedule_sets_the_radius_of_each_window():
    parameters = make_parameters()
    loop = InnerLoop(ball=L2Ball(radius=0.5), steps=1, radius_rule=lambda t: 0.5**t)
    window = Window(loop, parameters)
    radii = []
    for _ in range(3):
        take_steps(window, parameters, 1)
        radii.append(window.close().radius)
    assert radii == [0.5, 0.25, 0.125]


def test_a_schedule_without_a_radius_is_refused():
    with pytest.raises(ValueError, match="`radius_rule` must give a factor > 0, got 0.0 at outer"):
        Window(InnerLoop(radius_rule=lambda t: 0.0), make_parameters())


def test_a_schedule_counts_outer_steps_and_not_windows_without_one():
    (weight,) = parameters = [nn.Parameter(torch.ones(3))]
    window = Window(InnerLoop(steps=1, radius_rule=lambda step: 0.5**step), parameters)
    radii = []
    for value in (float("nan"), 1.0, 1.0):
        weight.grad = torch.full((3,), value)
        window.step()
        radii.append(window.close().radius)
    assert radii == [0.01, 0.01, 0.005]


def test_a_radius_rule_of_ones_own_sets_the_radius():
    class Halving(RadiusRule):
        def __call__(self, outer_step):
            return 0.5**outer_step

    parameters = make_parameters()
    window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=1, radius_rule=Halving()), parameters)
    radii = []
    for _ in range(3):
        take_steps(window, parameters, 1)
        radii.append(window.close().radius)
    assert radii == [0.5, 0.25, 0.125]


def test_a_window_starts_without_the_noise_of_the_one_before():
    """A first step shorter than 1 would keep some of it."""
    weight = nn.Parameter(torch.zeros(2))
    loop = InnerLoop(steps=2, step_size=ConstantStep(0.5), restart_when=NoiseFloor())
    window, lengths = Window(loop, [weight]), []
    for _ in range(2):
        weight.grad = torch.ones(2)
        window.step()
        lengths.append(window.state_dict()["displacement"]["noise"])
        window.close(early=True)
        window.drop_direction()
    assert lengths[0] == lengths[1] == pytest.approx(0.25)
