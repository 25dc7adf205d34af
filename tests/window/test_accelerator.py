"""On an accelerator: windows go as on the host, wait for nothing, and fit into a CUDA graph."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, ShortStep
from lightning_fw.window import Window
from tests.accelerator import NEEDS_CUDA, synchronizations_are_errors

from .device_loops import INFOS, LOOPS, assert_same_way, train, trained_through_trouble

pytestmark = NEEDS_CUDA

STEPS = 5
GRAPHED = {
    "paper": InnerLoop.paper(),
    "spectral": replace(InnerLoop.spectral(), steps=STEPS),
    "short step": InnerLoop(step_size=ShortStep(10.0), steps=STEPS),
}


@pytest.mark.parametrize("poisoned", [None, 0, 3, 4, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_windows_go_as_on_the_host_without_a_synchronization(loop, poisoned):
    train(loop, 1, None, device="cuda")  # libraries are loaded at their first call
    found = train(loop, 4, poisoned, synchronizations_are_errors, "cuda")
    assert_same_way(found, train(loop, 4, poisoned))


def directions(loop: InnerLoop, *, graphed: bool) -> list[list[torch.Tensor]]:
    """What three windows hand over; of the last two all inner steps but the first are replays."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(8, 3), (8,), (2, 8)]
    weights = [nn.Parameter(torch.randn(s, generator=generator).cuda()) for s in shapes]
    targets = torch.randn(3, STEPS, generator=generator).cuda()
    target = torch.zeros((), device="cuda")
    window = Window(loop, weights, INFOS[:3], statistics=False)
    outer = torch.optim.SGD(weights, lr=0.05)

    def inner_step() -> None:
        with window.displaced():
            loss = sum((p - target).cosh().mean() for p in weights)
            loss.backward()
        window.step()

    graph, found = torch.cuda.CUDAGraph(), []
    with torch.cuda.stream(torch.cuda.Stream()):
        for restart in range(3):
            for step in range(STEPS):
                target.copy_(targets[restart, step])
                if restart == 0 or step == 0 or not graphed:
                    inner_step()
                    continue
                if (restart, step) == (1, 1):
                    with torch.cuda.graph(graph, stream=torch.cuda.current_stream()):
                        inner_step()
                graph.replay()
            assert window.close().steps == STEPS
            found.append([p.grad.clone() for p in weights])
            outer.step()
    return found


@pytest.mark.parametrize("loop", GRAPHED.values(), ids=GRAPHED)
def test_a_cuda_graph_captures_an_inner_step_with_its_evaluation(loop):
    expected = directions(loop, graphed=False)
    for found, by_hand in zip(directions(loop, graphed=True), expected, strict=True):
        torch.testing.assert_close(found, by_hand)


@pytest.mark.parametrize("loop", GRAPHED.values(), ids=GRAPHED)
@pytest.mark.parametrize("statistics", [False, True])
def test_graphs_of_its_own_change_nothing(loop, statistics, monkeypatch):
    found = trained_through_trouble(loop, statistics)
    monkeypatch.setattr("lightning_fw.window.window.are_worthwhile", lambda *_: False)
    expected = trained_through_trouble(loop, statistics)
    assert_same_way(found, ([p.detach().cpu() for p in expected[0]], expected[1]))


@pytest.mark.parametrize("loop", GRAPHED.values(), ids=GRAPHED)
def test_closed_untold_windows_go_the_same_way(loop):
    found, _ = trained_through_trouble(loop, statistics=False, told=False)
    expected, _ = trained_through_trouble(loop, statistics=False)
    assert all(map(torch.equal, found, expected))


class Reading(L2Ball):
    """Reads the device, as a graph may not."""

    def atoms(self, gradients, infos=None, norms=None):
        assert gradients[0].sum().item() > -1e9
        return super().atoms(gradients, infos, norms)


def test_what_cannot_be_captured_goes_on_without(monkeypatch):
    monkeypatch.setattr("lightning_fw.window.graphs._BALLS", (Reading,))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = train(InnerLoop(ball=Reading(radius=0.1), steps=3), 4, None, device="cuda")
    assert sum("cannot be captured as a CUDA graph" in str(w.message) for w in told) == 1
    assert_same_way(found, train(InnerLoop(ball=L2Ball(radius=0.1), steps=3), 4, None))


def test_a_ball_of_a_users_is_not_captured():
    found = train(InnerLoop(ball=Reading(radius=0.1), steps=3), 4, 5, device="cuda")
    assert_same_way(found, train(InnerLoop(ball=L2Ball(radius=0.1), steps=3), 4, 5))


def test_a_copy_of_a_window_starts_without_graphs():
    weights = [nn.Parameter(torch.ones(3, device="cuda"))]
    window = Window(InnerLoop(steps=2), weights)
    for _ in range(8):
        with window.displaced():
            weights[0].square().sum().backward()
        window.step()
        if window.is_full:
            window.close()
    twin = copy.deepcopy(window)
    for each in (window, twin):
        each.parameters[0].grad = torch.ones(3, device="cuda")
        each.step()
    assert window.close() == twin.close()
    assert torch.equal(window.parameters[0].grad, twin.parameters[0].grad)
