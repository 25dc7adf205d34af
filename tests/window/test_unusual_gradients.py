"""Gradients that are zero, not finite, missing, sparse or of half precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, LinfBall, ShortStep, SlopeRatio, SpectralBall
from lightning_fw.window import Window
from tests.window.convex_loss import (
    BALLS,
    all_equal,
    copies,
    distance_to,
    make_parameters,
    take_steps,
)


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


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
def test_a_gradient_with_a_graph_is_left_as_it_was():
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2, momentum=0.9, nesterov=True), parameters)
    distance_to(parameters, 0.5).backward(create_graph=True)
    gradients = [p.grad for p in parameters]
    before = copies(gradients)
    window.step()
    assert all_equal(gradients, before)
    sum(g.square().sum() for g in gradients).backward()
    assert all(p.grad is not None for p in parameters)
    window.step()
    window.close()
    assert not any(p.grad.requires_grad for p in parameters)


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


def test_a_short_step_measures_the_way_to_atoms_that_half_precision_cannot_hold():
    weight = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    loop = InnerLoop(ball=L2Ball(radius=1.0), steps=1, step_size=ShortStep(10.0))
    window = Window(loop, [weight])
    weight.grad = torch.ones_like(weight)
    window.step()
    # γ = ‖g‖₂ / L, since the atom has the length 1; its entries √⅓ are 0.1 % more in bfloat16.
    assert window.close().ball_usage == pytest.approx(3**0.5 / 10, rel=1e-5)


@pytest.mark.parametrize("is_last", [True, False])
def test_a_batch_without_gradients_counts_in_the_mean_wherever_it_comes(is_last):
    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1), [weight])
    for has_gradient in (is_last, not is_last):
        weight.grad = torch.tensor([0.6, 0.8]) if has_gradient else None
        loss = torch.tensor(4.0 if has_gradient else 2.0)
        window.accumulate(loss) if window.holds == 0 else window.step(loss)
    record = window.close()
    assert record.gap_first == pytest.approx(0.5)
    assert record.loss_first == 3.0


@pytest.mark.parametrize("losses", [(), (3.0,), (3.0, 5.0)])
def test_a_step_takes_the_mean_of_its_batches_with_and_without_losses(losses):
    weight = nn.Parameter(torch.zeros(2))
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1), [weight])
    told = [*map(torch.tensor, losses), None, None]
    for take, gradient in ((window.accumulate, [3.0, 0.0]), (window.step, [0.0, 4.0])):
        weight.grad = torch.tensor(gradient)
        take(told.pop(0))
    record = window.close()
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))
    mean = sum(losses) / len(losses) if losses else math.nan
    assert record.loss_first == pytest.approx(mean, nan_ok=True)


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


@pytest.mark.parametrize("ball", [L2Ball(), LinfBall(), SpectralBall()], ids=repr)
@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_a_step_leaves_memory_alone_that_others_read(ball, momentum):
    inside, outside = (torch.nn.Parameter(torch.ones(2, 2)) for _ in range(2))
    window = Window(InnerLoop(ball=ball, steps=3, **momentum), [inside], statistics=False)
    for _ in range(3):
        # Autograd hands both a view of one storage.
        (inside.view(-1) + outside.view(-1)).mul(5).sum().backward()
        held = inside.grad
        window.step()
        assert (held == 5).all()
        assert (outside.grad == 5).all()
        outside.grad = None


def test_a_gradient_that_is_held_outlasts_the_buffer_that_it_came_in():
    """The next backward pass writes there again with DDP's ``gradient_as_bucket_view``."""
    weight, buffer = nn.Parameter(torch.zeros(2)), torch.zeros(2)
    window = Window(InnerLoop(ball=L2Ball(radius=1.0), steps=1), [weight])
    for gradient in ([3.0, 0.0], [0.0, 4.0]):
        weight.grad = buffer.copy_(torch.tensor(gradient))
        window.accumulate(weight.sum())
    window.step()
    assert buffer.tolist() == [0.0, 4.0]
    window.close()
    torch.testing.assert_close(weight.grad, torch.tensor([0.6, 0.8]))


def test_an_expanded_gradient_is_taken_with_nesterov_too():
    weight = torch.nn.Parameter(torch.ones(3))
    window = Window(InnerLoop(momentum=0.9, nesterov=True, steps=2), [weight])
    for _ in range(2):
        weight.grad = torch.tensor(2.0).expand(3)
        window.step()
    window.close()
    torch.testing.assert_close(weight.grad, torch.full((3,), 3**-0.5))


def test_a_loss_that_is_no_tensor_of_one_entry_is_refused_with_nothing_lost():
    window = Window(InnerLoop(), make_parameters())
    with pytest.raises(TypeError, match=r"`loss` must be a tensor, got 0\.5\. Pass what backward"):
        window.step(0.5)
    with pytest.raises(ValueError, match=r"`loss` must have one entry, got shape \(2,\)"):
        window.accumulate(torch.ones(2))
    with pytest.raises(ValueError, match=r"`loss` must have one entry, got shape \(0,\)"):
        window.step(torch.ones(0))
    assert window.is_fresh


def test_an_evaluation_at_the_anchor_after_zero_grad_needs_no_displaced():
    weight = torch.nn.Parameter(torch.ones(2))
    window = Window(InnerLoop(ball=L2Ball(radius=0.5), steps=1), [weight])
    for sign in (1.0, -1.0):
        weight.grad = None
        (sign * weight.sum()).backward()
        window.step()
        window.close()
        torch.testing.assert_close(weight.grad, torch.full((2,), sign * 0.5**0.5))


def test_many_batches_in_half_precision_are_added_up_in_float32():
    weight = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    window = Window(InnerLoop(steps=1), [weight])
    # 256 + 1 is 256 in bfloat16.
    for gradient in ([256.0, 0.0], *[[1.0, 1.0]] * 32):
        weight.grad = torch.tensor(gradient, dtype=torch.bfloat16)
        window.accumulate()
    window.close()
    assert float(weight.grad[0] / weight.grad[1]) == pytest.approx(288 / 32, rel=0.02)
