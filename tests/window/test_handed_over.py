"""What a window leaves in ``p.grad``, and what becomes of it."""

from __future__ import annotations

import weakref

import torch
from torch import nn

from lightning_fw import InnerLoop
from lightning_fw.window import Window
from tests.window.convex_loss import make_parameters, take_steps


def test_a_gradient_that_made_no_step_is_not_left_beside_the_direction():
    moved, still = (nn.Parameter(torch.ones(3)) for _ in range(2))
    window = Window(InnerLoop(steps=2), [moved, still])
    with window.displaced():
        moved.square().sum().backward()
    window.step()
    still.square().sum().backward()
    window.close()
    assert moved.grad is not None
    assert still.grad is None


def test_a_direction_of_half_precision_is_freed_when_it_is_dropped():
    """It is no buffer of the window, whose displacement is of float32."""
    weight = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    window = Window(InnerLoop(steps=1), [weight])
    weight.grad = torch.ones(3, dtype=torch.bfloat16)
    window.step()
    window.close()
    direction = weakref.ref(weight.grad)
    window.drop_direction()
    assert direction() is None


def test_between_windows_a_state_holds_no_displacement():
    """Checkpoints at the ends of epochs would be larger by the weights, once or twice."""
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2, trajectory="cumulative"), parameters)
    for steps, has_moved in ((1, True), (1, False)):
        take_steps(window, parameters, steps)
        if window.is_full:
            window.close()
        state = window.state_dict()["displacement"]
        assert (state["tensors"] is not None) is (state["sum"] is not None) is has_moved
