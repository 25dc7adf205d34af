"""The path of accelerators, where scalars stay tensors: run on the host, it must agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_fw import InnerLoop, SlopeRatio
from lightning_fw.tensors import scalars as scalars_module
from lightning_fw.window import Window
from lightning_fw.window import displacement as displacement_module
from tests.window.convex_loss import distance_to, make_parameters, take_steps

from .device_loops import LOOPS, assert_same_way, train


class ForbidReading(TorchDispatchMode):
    """Raises where a number is read off a tensor, which stalls an accelerator."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise AssertionError(f"{func} reads the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def keep_scalars_as_tensors(monkeypatch):
    def force():
        for module in (scalars_module, displacement_module):
            monkeypatch.setattr(module, "on_host", lambda device: False)

    return force


@pytest.mark.parametrize("poisoned", [None, 0, 3, 4, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_tensor_scalars_give_what_float_scalars_give(loop, poisoned, keep_scalars_as_tensors):
    expected = train(loop, 4, poisoned)
    keep_scalars_as_tensors()
    assert_same_way(train(loop, 4, poisoned, ForbidReading), expected)


def test_a_saved_window_knows_that_its_first_step_was_skipped(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    parameters = make_parameters()
    window = Window(InnerLoop(steps=2), parameters)
    with window.displaced():
        distance_to(parameters, 0.5, float("nan")).backward()
    window.step()
    again = Window(InnerLoop(steps=2), parameters)
    again.load_state_dict(window.state_dict())
    take_steps(again, parameters, 1)
    record = again.close()
    assert (record.steps, record.skipped) == (1, 1)
    assert math.isnan(record.cosine) and math.isnan(record.gap_first)
    assert record.gap_last > 0


def test_a_saved_window_has_no_slopes_along_atoms_of_skipped_steps(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    parameters = make_parameters()
    loop = InnerLoop(steps=3, radius_rule=SlopeRatio())
    window, again = Window(loop, parameters), Window(loop, parameters)
    with window.displaced():
        distance_to(parameters, 0.5, float("nan")).backward()
    window.step()
    again.load_state_dict(window.state_dict())
    for goes_on in (window, again):
        take_steps(goes_on, parameters, 2)
        assert math.isnan(goes_on.close().slope_ratio)
        assert goes_on.state_dict()["slopes"]["radius"]["updates"] == 0


def test_windows_apart_without_a_step_on_any_rank_have_no_direction(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    parameters = make_parameters()
    window = Window(InnerLoop(sync="restart"), parameters)
    with window.displaced():
        distance_to(parameters, 0.5, float("nan")).backward()
    window.step()
    window.close(reduce=lambda message: message)
    assert not window.has_direction
    assert [p.grad for p in parameters] == [None] * len(parameters)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
def test_a_gradient_with_a_graph_is_left_as_it_was_by_a_skipped_step(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    parameters = make_parameters()
    window = Window(InnerLoop(), parameters)
    distance_to(parameters, 0.5, math.inf).backward(create_graph=True)
    gradients = [p.grad for p in parameters]
    window.step()
    assert all(gradient.isinf().all() for gradient in gradients)


def test_weights_in_half_precision_have_step_sizes_in_float32(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    weight = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    window = Window(InnerLoop(steps=3), [weight])
    for axis in torch.eye(3, dtype=torch.bfloat16):
        weight.grad = axis.clone()
        window.step()
    state = window.state_dict()["displacement"]
    # The mean of three atoms: a third in bfloat16 is 0.2 % off.
    mean = [state["factor"] * entry for entry in state["tensors"][0].tolist()]
    assert mean == pytest.approx([-1 / 3] * 3, rel=1e-6)


def test_gradients_in_half_precision_are_averaged_with_weights_in_float32(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    weight = nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    window = Window(InnerLoop(momentum=0.9), [weight])
    weight.grad = torch.ones(3, dtype=torch.bfloat16)
    window.step()
    (average,) = window.state_dict()["momentum"]
    assert average.tolist() == pytest.approx([0.1] * 3, rel=1e-6)


def test_a_loss_may_be_a_vector_of_one_entry(keep_scalars_as_tensors):
    keep_scalars_as_tensors()
    weight = nn.Parameter(torch.zeros(3))
    window = Window(InnerLoop(steps=1), [weight])
    weight.grad = torch.ones(3)
    window.step(torch.tensor([2.0]))
    assert window.close().loss_first == 2
