"""The direction that a window leaves in ``p.grad``, and what becomes of it there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball
from lightning_fw.window import Window
from tests.window.convex_loss import distance_to, make_parameters, take_steps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_evaluation_that_adds_to_it_is_refused_in_each_precision(dtype):
    parameters = make_parameters(dtype)
    window = Window(InnerLoop(steps=1), parameters)
    take_steps(window, parameters, 1)
    window.close()
    distance_to(parameters, 0.5).backward()
    with pytest.raises(RuntimeError, match=r"must come after an evaluation inside displaced\(\)"):
        window.step()
    take_steps(window, parameters, 1)
    assert window.close().steps == 1


def test_an_evaluation_that_adds_to_that_of_a_window_before_is_refused():
    parameters = make_parameters()
    window, successor = (Window(InnerLoop(steps=1), parameters) for _ in range(2))
    take_steps(window, parameters, 1)
    window.close()
    successor.succeed(window)
    distance_to(parameters, 0.5).backward()
    with pytest.raises(RuntimeError, match=r"must come after an evaluation inside displaced\(\)"):
        successor.step()
    assert successor.attempts == 0


@pytest.mark.parametrize("fused", [False, True])
def test_weights_laid_out_anew_get_it_in_their_own_layout(fused):
    weights = []
    for is_late in (False, True):
        weight = nn.Parameter(torch.arange(24.0).reshape(2, 3, 2, 2))
        if not is_late:
            weight.data = weight.data.to(memory_format=torch.channels_last)
        window = Window(InnerLoop(ball=L2Ball(radius=0.1), steps=2), [weight])
        weight.data = weight.data.to(memory_format=torch.channels_last)
        for _ in range(2):
            with window.displaced():
                weight.square().sum().backward()
            window.step()
        window.close()
        torch.optim.Adam([weight], lr=0.1, fused=fused, eps=1e-3).step()
        weights.append(weight.detach())
    assert torch.allclose(*weights, atol=1e-6)


def test_weights_in_half_precision_may_have_gradients_in_float32():
    weight = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.bfloat16))
    if not hasattr(weight, "grad_dtype"):
        pytest.skip("this torch gives every gradient the dtype of its weight")
    weight.grad_dtype = torch.float32
    window = Window(InnerLoop(steps=1), [weight])
    with window.displaced():
        weight.square().sum().backward()
    window.step()
    window.close()
    assert weight.grad.dtype == torch.float32
    assert torch.allclose(weight.grad, torch.tensor([0.6, 0.8]))
