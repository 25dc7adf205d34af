"""The window on its own: what it moves, what it leaves alone, what it hands over."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw import ConstantStep, InnerLoop, L2Ball, SpectralBall
from lightning_fw.parameters import ParameterInfo, trainable
from lightning_fw.window import Window
from tests.window.convex_loss import (
    BALLS,
    all_equal,
    copies,
    distance_to,
    make_parameters,
    take_steps,
)


@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
def test_the_weights_stand_at_the_anchor_outside_displaced(trajectory):
    parameters = make_parameters()
    anchor = copies(parameters)
    window = Window(InnerLoop(trajectory=trajectory), parameters)
    take_steps(window, parameters, 2)
    assert all_equal(parameters, anchor)
    with window.displaced():
        assert not all_equal(parameters, anchor)
        with window.anchor.restored():
            assert all_equal(parameters, anchor)
        assert not all_equal(parameters, anchor)
    assert all_equal(parameters, anchor)


def test_a_fixed_trajectory_never_leaves_the_anchor():
    parameters = make_parameters()
    anchor = copies(parameters)
    window = Window(InnerLoop(trajectory="fixed"), parameters)
    take_steps(window, parameters, 2)
    with window.displaced():
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


def test_the_direction_is_dropped_when_the_next_window_opens():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=1), parameters)
    take_steps(window, parameters, 1)
    window.close()
    with window.displaced():
        assert all(p.grad is None for p in parameters)


def test_a_step_too_many_is_refused_and_changes_nothing():
    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(steps=2), [weight])
    for _ in range(2):
        weight.grad = torch.ones(2)
        window.step()
    weight.grad = torch.ones(2)
    with pytest.raises(
        RuntimeError, match=r"`step` must come at most 2 times a window, got one more"
    ):
        window.step()
    assert window.close().steps == 2


def test_no_parameters_are_refused():
    with pytest.raises(ValueError, match="`parameters` must hold at least one trainable tensor"):
        Window(InnerLoop(), [])


def test_complex_parameters_are_refused():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ValueError, match="real floating-point tensors, got one of torch.complex64"):
        Window(InnerLoop(), [weight])


def test_the_ball_checks_the_parameters():
    from lightning_fw import ProductBall

    loop = InnerLoop(ball=ProductBall({"head*": L2Ball()}))
    with pytest.raises(ValueError, match="no pattern for the parameter 'lstm.weight'"):
        Window(loop, make_parameters()[:1], [ParameterInfo("lstm.weight")])


def test_parameters_are_read_once_as_optimizers_do() -> None:
    module = torch.nn.Linear(2, 2)
    window = Window(InnerLoop(), module.parameters())
    assert [id(p) for p in window.parameters] == [id(p) for p in module.parameters()]


def test_a_second_displacement_within_the_first_leaves_the_weights_at_the_anchor() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(ball=L2Ball(radius=0.5)), [weight])
    with window.displaced():
        weight.sum().backward()
    window.step()
    nested = pytest.raises(RuntimeError, match="`displaced` cannot be entered within itself")
    with nested, window.displaced(), window.displaced():
        pass
    torch.testing.assert_close(weight.data, torch.ones(2), rtol=0, atol=0)


@pytest.mark.parametrize("close", ["close", "close_untold"])
def test_a_window_that_is_closed_inside_displaced_says_that_the_outer_step_would_be_lost(close):
    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=1), [weight])
    inside = pytest.raises(RuntimeError, match=r"`close` must come after the block of displaced")
    with inside, window.displaced():
        weight.sum().backward()
        window.step()
        getattr(window, close)()
    getattr(window, close)()
    assert weight.grad is not None


def test_an_evaluation_that_adds_to_the_direction_is_refused_and_leaves_it():
    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=1), [weight])
    for call in (window.step, lambda: window.accumulate(torch.tensor(1.0))):
        with window.displaced():
            weight.sum().backward()
        window.step()
        window.close()
        direction = weight.grad
        # Without displaced(), which would have dropped the direction.
        weight.sum().backward()
        assert weight.grad is direction
        with pytest.raises(RuntimeError, match="must come after an evaluation inside displaced"):
            call()


def test_tied_weights_that_come_twice_are_moved_once():
    words, head = torch.nn.Embedding(10, 8), torch.nn.Linear(8, 10)
    head.weight = words.weight
    window = Window(InnerLoop(steps=1), [*words.parameters(), *head.parameters()])
    groups = [{"params": [words.weight]}, {"params": [head.weight, head.bias]}]
    parameters, infos = trainable(groups, torch.nn.Sequential(words, head))
    assert len(window.parameters) == len(parameters) == 2
    assert [info.group for info in infos] == [0, 1]
    with window.displaced():
        head(words(torch.arange(10))).square().mean().backward()
    window.step()
    window.close()
    assert words.weight.grad.norm() == pytest.approx(1, rel=1e-5)


def test_parameters_without_an_entry_are_left_alone():
    empty, full = torch.nn.Parameter(torch.ones(0, 3)), torch.nn.Parameter(torch.ones(2, 2))
    window = Window(InnerLoop(ball=SpectralBall(), steps=1), [empty, full])
    with window.displaced():
        (empty.sum() + full.square().sum()).backward()
    window.step()
    assert window.close().ball_usage == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_window_without_a_step_leaves_no_direction(dtype):
    weight = torch.nn.Parameter(torch.ones(3, dtype=dtype))
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), steps=1), [weight])
    with window.displaced():
        weight.square().sum().backward()
    window.step()
    window.close()
    assert weight.grad is not None
    assert window.close().steps == 0
    assert weight.grad is None
    assert not window.has_direction


def test_a_batch_that_is_skipped_counts_for_nothing_in_the_mean():
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    loop = InnerLoop(steps=2, momentum=0.5, accumulate_grad_batches=2)
    for weight in weights:
        window = Window(loop, [weight])
        for slope in (1.0, -5.0):
            if weight is weights[1]:
                window.skip()
                assert window.holds == 1
            weight.grad = torch.tensor([1.0, slope, 2.0])
            window.step(torch.tensor(1.0))
        window.close()
    assert torch.equal(weights[0].grad, weights[1].grad)


def test_a_batch_is_held_without_its_loss_too():
    weight = torch.nn.Parameter(torch.ones(3))
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), steps=2), [weight])
    with window.displaced():
        weight.square().sum().backward()
    window.accumulate()
    assert weight.grad is None
    assert window.close().steps == 1
    assert weight.grad.norm() == pytest.approx(1)


def test_batches_still_held_make_a_step_where_the_window_closes():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    loop = InnerLoop(ball=L2Ball(radius=0.5), steps=3, accumulate_grad_batches=2)
    by_hand, cut_off = (Window(loop, [weight]) for weight in weights)
    for window, weight in zip((by_hand, cut_off), weights, strict=True):
        for index, last in enumerate((0.5, 2.0, -3.0)):
            with window.displaced():
                (weight * torch.tensor([1.0, last])).sum().backward()
            loss = torch.tensor(last)
            is_whole = index == 1 or (index == 2 and window is by_hand)
            window.step(loss) if is_whole else window.accumulate(loss)
    records = [window.close() for window in (by_hand, cut_off)]
    assert [record.steps for record in records] == [2, 2]
    assert torch.equal(weights[0].grad, weights[1].grad)
    assert cut_off.is_fresh


def test_what_is_no_inner_loop_and_no_tensors_is_named():
    with pytest.raises(TypeError, match=r"`inner_loop` must be an InnerLoop, got L2Ball\("):
        Window(L2Ball(), make_parameters())
    with pytest.raises(TypeError, match="`parameters` must be tensors, got a Linear. Pass its"):
        Window(InnerLoop(), nn.Linear(2, 1))
