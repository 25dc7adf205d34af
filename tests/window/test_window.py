"""The window on its own: what it moves, what it leaves alone, what it hands over."""

from __future__ import annotations

import io
import math

import pytest
import torch
from torch import nn

from lightning_fw import (
    ConstantStep,
    GapFraction,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NoiseFloor,
    NuclearBall,
    OpenLoop,
    RMSBall,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window

BALLS = [
    L1Ball(radius=0.1),
    L2Ball(radius=0.1),
    L2Ball(radius=0.1, scope="global"),
    RMSBall(radius=0.1),
    LinfBall(radius=0.1),
    LpBall(3.0, radius=0.1),
    SpectralBall(radius=0.1),
    NuclearBall(radius=0.1),
]


def make_parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, 3), (4,), (2, 4)]
    return [nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes]


def distance_to(parameters: list[nn.Parameter], target: float, scale: float = 1.0) -> torch.Tensor:
    """A convex loss whose gradient depends on where the weights stand."""
    losses = [(p - target).pow(2).sum() + (p - target).cosh().sum() for p in parameters]
    return scale * torch.stack(losses).sum()


def take_steps(window: Window, parameters: list[nn.Parameter], steps: int, scale: float = 1.0):
    for _ in range(steps):
        with window.displaced():
            loss = distance_to(parameters, 0.5, scale)
            loss.backward()
        window.step(loss)


def copies(parameters: list[nn.Parameter]) -> list[torch.Tensor]:
    return [p.detach().clone() for p in parameters]


def all_equal(left, right) -> bool:
    return all(torch.equal(x, y) for x, y in zip(left, right, strict=True))


@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
def test_the_weights_stand_at_the_anchor_outside_displaced(trajectory):
    parameters = make_parameters()
    anchor = copies(parameters)
    window = Window(InnerLoop(trajectory=trajectory), parameters)
    take_steps(window, parameters, 2)
    assert all_equal(parameters, anchor)
    with window.displaced():
        assert not all_equal(parameters, anchor)
        with window.at_anchor():
            assert all_equal(parameters, anchor)
        assert not all_equal(parameters, anchor)
    assert all_equal(parameters, anchor)


def test_an_error_inside_displaced_leaves_the_anchor():
    parameters = make_parameters()
    anchor = copies(parameters)
    window = Window(InnerLoop(), parameters)
    take_steps(window, parameters, 1)

    def interrupted():
        with window.displaced():
            assert not all_equal(parameters, anchor)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all_equal(parameters, anchor)


def test_the_displacement_is_the_mean_of_the_atoms_at_the_displaced_points():
    parameters = make_parameters()
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), steps=3), parameters)
    expected = [torch.zeros_like(p) for p in parameters]
    for k in range(1, 4):
        points = [(p + d).detach().requires_grad_() for p, d in zip(parameters, expected)]
        gradients = torch.autograd.grad(distance_to(points, 0.5), points)
        expected = [d + (-0.1 * g / g.norm() - d) / k for d, g in zip(expected, gradients)]
        take_steps(window, parameters, 1)
    window.close()
    for p, d in zip(parameters, expected, strict=True):
        torch.testing.assert_close(p.grad, -d / 0.1, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_outer_sgd_with_the_radius_as_learning_rate_lands_where_the_window_ended(ball):
    ends = []
    for direction, lr in (("unit", 0.1), ("displacement", 1.0)):
        parameters = make_parameters()
        window = Window(InnerLoop(ball=ball, steps=3, direction=direction), parameters)
        take_steps(window, parameters, 3)
        with window.displaced():
            end = copies(parameters)
        window.close()
        torch.optim.SGD(parameters, lr=lr).step()
        for p, q in zip(parameters, end, strict=True):
            torch.testing.assert_close(p.detach(), q, rtol=1e-12, atol=1e-14)
        ends.append(end)
    assert all_equal(*ends)


def test_a_constant_step_of_one_forgets_the_past():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=3, step_size=ConstantStep(1.0)), parameters)
    take_steps(window, parameters, 2)
    with window.displaced():
        distance_to(parameters, 0.5).backward()
    last = [p.grad / p.grad.norm() for p in parameters]
    window.step()
    window.close()
    for p, unit in zip(parameters, last, strict=True):
        torch.testing.assert_close(p.grad, unit, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ball", BALLS, ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("exponent", [-20, 20])
def test_the_direction_does_not_depend_on_the_scale_of_the_loss(ball, momentum, exponent):
    directions = []
    for scale in (1.0, 2.0**exponent):
        parameters = make_parameters()
        window = Window(InnerLoop(ball=ball, steps=3, momentum=momentum), parameters)
        take_steps(window, parameters, 3, scale)
        window.close()
        directions.append([p.grad for p in parameters])
    for x, y in zip(*directions, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ball", BALLS, ids=str)
def test_zero_gradients_leave_the_weights_finite_and_unmoved(ball):
    parameters = make_parameters()
    anchor = copies(parameters)
    loop = InnerLoop(ball=ball, steps=2, momentum=0.9, radius_rule=SlopeRatio())
    window = Window(loop, parameters)
    for _ in range(4):
        with window.displaced():
            (0.0 * distance_to(parameters, 0.5)).backward()
        window.step()
        if window.is_full:
            record = window.close()
            torch.optim.SGD(parameters, lr=1.0).step()
    assert record.steps == 2 and record.skipped == 0
    assert all_equal(parameters, anchor)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_non_finite_gradient_skips_its_step_and_is_counted(bad):
    directions = []
    for poisoned in (False, True):
        parameters = make_parameters()
        window = Window(InnerLoop(steps=3, momentum=0.5), parameters)
        take_steps(window, parameters, 1)
        if poisoned:
            with window.displaced():
                distance_to(parameters, 0.5).backward()
            parameters[1].grad[2] = bad
            window.step()
        take_steps(window, parameters, 1)
        record = window.close()
        assert (record.steps, record.skipped) == (2, int(poisoned))
        directions.append([p.grad for p in parameters])
    assert all_equal(*directions)


def test_a_window_of_skipped_steps_hands_over_nothing():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2), parameters)
    for _ in range(2):
        (distance_to(parameters, 0.5) * float("nan")).backward()
        window.step()
    record = window.close()
    assert (record.steps, record.skipped) == (0, 2)
    assert all(p.grad is None for p in parameters)


def test_a_parameter_without_a_gradient_keeps_none_and_the_others_go_on():
    parameters = make_parameters()
    window = Window(InnerLoop(ball=L2Ball(radius=0.1, scope="global"), steps=2), parameters)
    anchor = copies(parameters)
    for _ in range(2):
        with window.displaced():
            assert torch.equal(parameters[2], anchor[2])
            distance_to(parameters[:2], 0.5).backward()
        window.step()
    window.close()
    assert parameters[2].grad is None
    lengths = torch.stack([p.grad.norm() for p in parameters[:2]])
    assert lengths.norm() == pytest.approx(1.0, abs=0.02)


def test_the_direction_is_dropped_when_the_next_window_opens():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=1), parameters)
    take_steps(window, parameters, 1)
    window.close()
    with window.displaced():
        assert all(p.grad is None for p in parameters)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_directions_have_the_parameters_dtype(dtype):
    parameters = make_parameters(dtype)
    window = Window(InnerLoop(steps=2), parameters)
    take_steps(window, parameters, 2)
    record = window.close()
    assert all(p.grad.dtype == dtype for p in parameters)
    assert record.ball_usage == pytest.approx(1.0, abs=0.05)


def test_half_precision_weights_keep_displacements_that_they_cannot_hold():
    weight = nn.Parameter(torch.full((4,), 256.0, dtype=torch.bfloat16))
    window = Window(InnerLoop(ball=L2Ball(radius=1e-3), steps=2), [weight])
    for _ in range(2):
        with window.displaced():
            weight.sum().backward()
        window.step()
    window.close()
    torch.testing.assert_close(weight.grad.float(), torch.full((4,), 0.5), rtol=1e-2, atol=0)


def test_the_record_of_a_straight_line():
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    slope = torch.tensor([0.6, 0.8], dtype=torch.float64)
    window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=2), [weight])
    for _ in range(2):
        with window.displaced():
            loss = weight @ slope
            loss.backward()
        window.step(loss)
    record = window.close(early=True)
    assert record.early
    assert record.radius == 0.5
    assert record.gap_first == pytest.approx(0.5)
    assert record.gap_last == pytest.approx(0.0, abs=1e-12)
    assert record.ball_usage == pytest.approx(1.0)
    assert record.cosine == pytest.approx(1.0)
    assert record.loss_first == pytest.approx(5.0)
    assert record.loss_drop == pytest.approx(0.5)


def test_without_statistics_the_direction_is_the_same():
    directions = []
    for statistics in (True, False):
        parameters = make_parameters()
        window = Window(InnerLoop(steps=3), parameters, statistics=statistics)
        take_steps(window, parameters, 3)
        record = window.close()
        assert (record.gap_first > 0) is statistics
        directions.append([p.grad for p in parameters])
    assert all_equal(*directions)


STATEFUL = [
    InnerLoop(steps=4),
    InnerLoop(steps=4, trajectory="cumulative", momentum=0.9, step_size=OpenLoop()),
    InnerLoop(steps=4, radius_rule=SlopeRatio(), direction="displacement", momentum=0.5),
    InnerLoop(steps=4, restart_when=NoiseFloor(), radius_rule=lambda t: 1 / (t + 1)),
]


@pytest.mark.parametrize("loop", STATEFUL)
@pytest.mark.parametrize("steps_before", [4, 6, 8])
def test_a_saved_window_goes_on_to_the_last_bit(loop, steps_before):
    """Saved in mid-window and between windows, loaded with ``weights_only=True``."""

    def run(window, parameters, steps):
        records = []
        for _ in range(steps):
            take_steps(window, parameters, 1)
            if window.is_full:
                records.append(window.close())
                torch.optim.SGD(parameters, lr=0.1).step()
        return records

    straight = make_parameters()
    expected = run(Window(loop, straight), straight, 16)

    parameters = make_parameters()
    window = Window(loop, parameters)
    run(window, parameters, steps_before)
    file = io.BytesIO()
    torch.save(window.state_dict(), file)
    file.seek(0)
    resumed = [nn.Parameter(p.detach().clone()) for p in parameters]
    again = Window(loop, resumed)
    again.load_state_dict(torch.load(file, weights_only=True))
    records = run(again, resumed, 16 - steps_before)
    assert all_equal(resumed, straight)
    assert repr(records) == repr(expected[-len(records) :])


def test_a_state_of_other_parameters_is_refused():
    parameters = make_parameters()
    window = Window(InnerLoop(momentum=0.9), parameters)
    take_steps(window, parameters, 1)
    other = Window(InnerLoop(momentum=0.9), parameters[:2])
    with pytest.raises(ValueError, match="`state` has a momentum of shapes .* Load it into"):
        other.load_state_dict(window.state_dict())


def test_a_window_on_other_parameters_keeps_count_and_radius():
    parameters = make_parameters()
    loop = InnerLoop(ball=L2Ball(radius=0.1), steps=2, radius_rule=SlopeRatio())
    window = Window(loop, parameters[:2])
    for _ in range(3):
        take_steps(window, parameters, 2)
        window.close()
    successor = Window(loop, parameters)
    successor.succeed(window)
    assert successor.restart == 3
    assert successor.radius == window.radius != pytest.approx(0.1, rel=1e-6)


def test_the_gap_closes_a_window_early():
    parameters = make_parameters()
    loop = InnerLoop(ball=L2Ball(radius=10.0), steps=500, restart_when=GapFraction(0.1))
    window = Window(loop, parameters)
    gaps = []
    while not window.wants_restart() and not window.is_full:
        take_steps(window, parameters, 1)
        gaps.append(window._statistics.gap_last)
    assert 1 < len(gaps) < 500
    assert gaps[-1] <= 0.1 * gaps[0] < gaps[-2]


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


def test_slopes_are_averaged_by_reduce():
    parameters = make_parameters()
    loop = InnerLoop(ball=L2Ball(radius=0.1), steps=2, radius_rule=SlopeRatio())
    window = Window(loop, parameters)
    take_steps(window, parameters, 2)
    window.close()
    take_steps(window, parameters, 2)
    record = window.close(reduce=lambda slopes: torch.tensor([-1.0, -0.25]))
    assert record.slope_ratio == pytest.approx(0.25)


def test_a_short_step_minimizes_a_quadratic_along_the_way():
    weight = nn.Parameter(torch.tensor([0.3, 0.0], dtype=torch.float64))
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1, step_size=ShortStep(2.0)), [weight])
    weight.square().sum().backward()
    window.step()
    window.close()
    torch.optim.SGD([weight], lr=1.0).step()
    torch.testing.assert_close(weight.detach(), torch.zeros(2, dtype=torch.float64))


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


def test_no_parameters_are_refused():
    with pytest.raises(ValueError, match="`parameters` must hold at least one trainable tensor"):
        Window(InnerLoop(), [])


def test_complex_parameters_are_refused():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="real floating-point tensors .* got one of torch.complex"):
        Window(InnerLoop(), [weight])


def test_the_ball_checks_the_parameters():
    from lightning_fw import ProductBall

    loop = InnerLoop(ball=ProductBall({"head*": L2Ball()}))
    with pytest.raises(ValueError, match="no pattern for the parameter 'lstm.weight'"):
        Window(loop, make_parameters()[:1], [ParameterInfo("lstm.weight")])


@pytest.mark.parametrize("skipped", [0, 1, 2])
def test_statistics_of_a_skipped_first_or_last_step_are_unknown(skipped):
    parameters = make_parameters()
    window = Window(InnerLoop(steps=3), parameters)
    for step in range(3):
        with window.displaced():
            loss = distance_to(parameters, 0.5)
            loss.backward()
        if step == skipped:
            parameters[0].grad[0, 0] = float("nan")
        window.step(loss)
    record = window.close()
    first, last = skipped == 0, skipped == 2
    assert [math.isnan(v) for v in (record.gap_first, record.loss_first, record.cosine)] == [
        first
    ] * 3
    assert [math.isnan(v) for v in (record.gap_last, record.loss_last)] == [last] * 2
    assert 0 < record.ball_usage <= 1


def test_a_schedule_counts_outer_steps_and_not_windows_without_one():
    (weight,) = parameters = [nn.Parameter(torch.ones(3))]
    window = Window(InnerLoop(steps=1, radius_rule=lambda step: 0.5**step), parameters)
    radii = []
    for value in (float("nan"), 1.0, 1.0):
        weight.grad = torch.full((3,), value)
        window.step()
        radii.append(window.close().radius)
    assert radii == [0.01, 0.01, 0.005]


def test_a_parameter_without_a_gradient_in_a_later_step_counts_as_zero():
    a, b = parameters = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    window = Window(InnerLoop(ball=L2Ball(radius=1.0, scope="global"), steps=2), parameters)
    a.grad = torch.tensor([3.0, 4.0])
    window.step()
    b.grad = torch.tensor([0.0, 2.0])
    window.step()
    window.close()
    torch.testing.assert_close(a.grad, torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(b.grad, torch.tensor([0.0, 0.5]))


def test_sparse_gradients_are_taken_as_dense_ones():
    embedding = nn.Embedding(5, 2, sparse=True)
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1), [embedding.weight])
    embedding(torch.tensor([1, 3])).sum().backward()
    window.step()
    window.close()
    assert embedding.weight.grad.tolist() == [[0, 0], [0.5, 0.5], [0, 0], [0.5, 0.5], [0, 0]]


@pytest.mark.parametrize(
    ("saved", "loaded", "what"),
    [
        (InnerLoop(), InnerLoop(momentum=0.9), "momentum"),
        (InnerLoop(momentum=0.9), InnerLoop(), "momentum"),
        (InnerLoop(), InnerLoop(trajectory="cumulative"), "the trajectory"),
        (InnerLoop(trajectory="cumulative"), InnerLoop(), "the trajectory"),
        (InnerLoop(), InnerLoop(radius_rule=SlopeRatio()), "slopes"),
    ],
)
def test_a_state_of_other_settings_is_refused(saved, loaded, what):
    parameters = make_parameters()
    window = Window(saved, parameters)
    take_steps(window, parameters, 2)
    with pytest.raises(ValueError, match=f"`state` and `inner_loop` must agree on {what}"):
        Window(loaded, parameters).load_state_dict(window.state_dict())


@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1e-10, 1e10])
def test_the_cosine_is_one_at_most_at_every_scale(scale):
    weight = nn.Parameter(torch.zeros(4))
    window = Window(InnerLoop(ball=LinfBall(radius=1.0), steps=1), [weight])
    weight.grad = torch.full((4,), scale)
    window.step()
    cosine = window.close().cosine
    assert cosine == pytest.approx(1.0) if scale > 1e-15 else 0 <= cosine <= 1
