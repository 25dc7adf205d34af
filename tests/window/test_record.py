"""The record of a window: its numbers, and those that are not known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_fw import (
    ConstantStep,
    InnerLoop,
    L2Ball,
    LinfBall,
    RestartRecord,
    SlopeRatio,
)
from lightning_fw.window import Window
from tests.window.convex_loss import all_equal, distance_to, make_parameters, take_steps


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


def test_a_gap_that_was_zero_from_the_first_has_no_ratio():
    """As on a plateau: a gradient that is 0."""
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=2), [weight])
    for slope in (0.0, 1.0):
        with window.displaced():
            loss = slope * weight.sum()
            loss.backward()
        window.step(loss)
    record = window.close()
    assert record.gap_first == 0 < record.gap_last
    assert math.isnan(record.gap_ratio)
    falls = RestartRecord(restart=0, steps=2, gap_first=2.0, gap_last=0.5)
    assert falls.gap_ratio == 0.25


def test_records_may_be_in_a_set_with_radii_of_their_own_tensors():
    records = [RestartRecord(restart=i, steps=2, radii={"weight": 0.1}) for i in (0, 1, 1)]
    assert set(records) == set(records[:2])


def test_a_window_that_is_cut_short_tells_the_gap_of_its_last_step():
    full, short = make_parameters(), make_parameters()
    window = Window(InnerLoop(steps=2), full)
    take_steps(window, full, 2)
    expected = window.close()
    window = Window(InnerLoop(steps=5), short)
    take_steps(window, short, 1)
    with window.displaced():
        loss = distance_to(short, 0.5)
        loss.backward()
    window.step(loss, last=True)
    assert window.close() == expected
    assert expected.gap_last != expected.gap_first


def test_a_window_that_nobody_knew_to_be_at_its_end_tells_no_gap_of_another_step():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=5), parameters)
    take_steps(window, parameters, 3)
    record = window.close()
    assert record.gap_first > 0
    assert math.isnan(record.gap_last)
    assert math.isnan(record.gap_ratio)


def test_a_window_whose_first_step_was_skipped_tells_nothing_of_the_first_step_before():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2), parameters)
    take_steps(window, parameters, 2)
    assert window.close().cosine > 0
    take_steps(window, parameters, 1, math.nan)
    take_steps(window, parameters, 1)
    record = window.close()
    assert (record.steps, record.skipped) == (1, 1)
    assert all(map(math.isnan, (record.cosine, record.gap_first, record.loss_first)))
    assert record.gap_last > 0


def test_the_cosine_is_that_of_the_first_gradients_in_a_successor_too():
    parameters, straight = make_parameters(), make_parameters()
    window = Window(InnerLoop(steps=2), straight)
    take_steps(window, straight, 2)
    expected = window.close().cosine
    window, successor = (Window(InnerLoop(steps=2), ps) for ps in (parameters, parameters[::-1]))
    take_steps(window, parameters, 1)
    successor.succeed(window)
    take_steps(successor, parameters, 1)
    assert successor.close().cosine == pytest.approx(expected)
    assert 0.1 < expected < 0.999


def test_the_cosine_is_with_all_that_moved():
    """A parameter whose first gradient comes later is part of the direction, too."""
    early, late = (nn.Parameter(torch.zeros(2, dtype=torch.float64)) for _ in range(2))
    window = Window(InnerLoop(steps=2), [early, late])
    for moved in ([early], [early, late]):
        with window.displaced():
            sum(p.sum() for p in moved).backward()
        window.step()
    # The mean of two atoms that agree, beside the mean of one and none.
    assert window.close().cosine == pytest.approx(1 / math.sqrt(1 + 0.5**2))


def test_without_statistics_the_direction_is_the_same():
    directions = []
    for statistics in (True, False):
        parameters = make_parameters()
        window = Window(InnerLoop(steps=3), parameters, statistics=statistics)
        take_steps(window, parameters, 3)
        record = window.close()
        assert (record.gap_first > 0) is (record.ball_usage > 0) is statistics
        directions.append([p.grad for p in parameters])
    assert all_equal(*directions)


@pytest.mark.parametrize("skipped", [(), (0,), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("rule", [None, SlopeRatio()])
def test_closed_untold_a_window_goes_as_with_a_record(rule, skipped):
    directions, radii = [], []
    for told in (True, False):
        parameters = make_parameters()
        loop = InnerLoop(steps=3, radius_rule=rule)
        window = Window(loop, parameters, statistics=told)
        outer = torch.optim.SGD(parameters, lr=0.1)
        for restart in range(3):
            for step in range(3):
                with window.displaced():
                    distance_to(parameters, 2.0).backward()
                if restart == 1 and step in skipped:
                    parameters[0].grad.fill_(torch.nan)
                window.step()
            _ = window.close() if told else window.close_untold()
            assert window.has_direction is not (restart == 1 and len(skipped) == 3)
            directions.append([p.grad for p in parameters])
            outer.step()
        radii.append((window.radius, window.restart, window.outer_step))
    assert all(x is y or torch.equal(x, y) for x, y in zip(*directions[2::3], strict=True))
    assert radii[0] == radii[1]


def test_slopes_travel_with_the_displacements():
    parameters = make_parameters()
    ball, rule = L2Ball(radius=0.1), SlopeRatio()
    loop = InnerLoop(ball=ball, steps=2, radius_rule=rule, sync="restart")
    window = Window(loop, parameters)
    take_steps(window, parameters, 2)
    window.close()
    take_steps(window, parameters, 2)

    def with_slopes_of_others(message):
        # Before them: whether a step was taken, a length, whether the epoch has ended, which of the
        # three parameters moved, which of the two slopes are known.
        message[8:10] = torch.tensor([-1.0, -0.25])
        return message

    record = window.close(reduce=with_slopes_of_others)
    assert record.slope_ratio == pytest.approx(0.25)


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


@pytest.mark.parametrize("scale", [1e-30, 1e-23, 1e-10, 1e10])
def test_the_cosine_is_one_at_most_at_every_scale(scale):
    weight = nn.Parameter(torch.zeros(4))
    window = Window(InnerLoop(ball=LinfBall(radius=1.0), steps=1), [weight])
    weight.grad = torch.full((4,), scale)
    window.step()
    cosine = window.close().cosine
    assert cosine == pytest.approx(1.0) if scale > 1e-15 else 0 <= cosine <= 1


def test_the_cosine_is_never_above_one_by_rounding():
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(7))
    window = Window(InnerLoop(steps=1), [weight])
    for sign in (1.0, -1.0) * 20:
        weight.grad = sign * torch.randn(7, generator=generator)
        window.step()
        assert 0.999 < window.close().cosine <= 1


@pytest.mark.parametrize("batches", [1, 2])
def test_losses_are_those_of_their_steps_whatever_becomes_of_the_tensor(batches):
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2), parameters)
    for value in (3.0, 2.0):
        for tell in [window.accumulate] * (batches - 1) + [window.step]:
            with window.displaced():
                distance_to(parameters, 0.5).backward()
            loss = torch.tensor(value)
            tell(loss)
            # As an all-reduce for a log of one's own does.
            loss.mul_(8.0)
    record = window.close()
    assert (record.loss_first, record.loss_last) == (3.0, 2.0)


def test_a_window_without_a_step_tells_nothing_of_the_one_before():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2), parameters)
    take_steps(window, parameters, 2)
    assert window.close().gap_last > 0
    record = window.close()
    assert record.steps == 0
    numbers = (record.gap_first, record.gap_last, record.loss_first, record.loss_last)
    assert all(map(math.isnan, (*numbers, record.cosine, record.ball_usage)))


def test_a_first_gradient_whose_squares_vanish_has_no_cosine_that_can_be_told():
    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=2), [weight])
    for gradient in ([1e-25, 0.0], [1.0, 1.0]):
        weight.grad = torch.tensor(gradient)
        window.step()
    assert window.close().cosine == pytest.approx(0.0, abs=1e-6)


def test_the_cosine_is_never_below_minus_one_by_rounding():
    """Where the last atom, which is all that is left, opposes the first."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.zeros(7))
    window = Window(InnerLoop(steps=2, step_size=ConstantStep(1.0)), [weight])
    for _ in range(40):
        gradient = torch.randn(7, generator=generator)
        for sign in (1.0, -1.0):
            weight.grad = sign * gradient
            window.step()
        assert -1 <= window.close().cosine < -0.999


def test_the_cosine_is_with_the_first_gradient_whatever_becomes_of_its_memory():
    """As under DDP with ``gradient_as_bucket_view``."""
    weight, bucket = nn.Parameter(torch.zeros(2)), torch.empty(2)
    window = Window(InnerLoop(steps=2), [weight])
    for gradient in ([1.0, 0.0], [0.0, 1.0]):
        weight.grad = bucket.copy_(torch.tensor(gradient))
        window.step()
    bucket.fill_(1.0)
    assert window.close().cosine == pytest.approx(1 / math.sqrt(2))
