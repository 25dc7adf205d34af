"""Graphs of a window's arithmetic, emulated on the host, change nothing."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_fw import ConstantStep, InnerLoop, L2Ball, ProductBall, ShortStep, SpectralBall
from lightning_fw.tensors import scalars as scalars_module
from lightning_fw.window import Window
from lightning_fw.window import displacement as displacement_module
from lightning_fw.window.graphs import _only_launches
from tests.window.convex_loss import make_parameters, take_steps

from .device_loops import INFOS, LOOPS, assert_same_way, trained_through_trouble
from .emulated_graphs import EmulatedGraphs

MORE = [
    replace(InnerLoop.spectral(), steps=5),
    InnerLoop(step_size=ShortStep(10.0), steps=5),
    InnerLoop(steps=3, trajectory="cumulative"),
]


@pytest.fixture(autouse=True)
def scalars_stay_tensors(monkeypatch):
    for module in (scalars_module, displacement_module):
        monkeypatch.setattr(module, "on_host", lambda device: False)


@pytest.fixture
def emulate(monkeypatch):
    def emulate():
        monkeypatch.setattr(EmulatedGraphs, "replays", 0)
        monkeypatch.setattr("lightning_fw.window.graphs.Graphs", EmulatedGraphs)
        monkeypatch.setattr("lightning_fw.window.window.are_worthwhile", lambda *_: True)

    return emulate


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("loop", LOOPS + MORE)
def test_replays_do_what_the_calls_did(loop, statistics, emulate):
    expected = trained_through_trouble(loop, statistics, device="cpu")
    emulate()
    found = trained_through_trouble(loop, statistics, device="cpu")
    assert EmulatedGraphs.replays >= 3
    assert_same_way(found, expected)


@pytest.mark.parametrize("loop", MORE)
def test_closed_untold_windows_go_the_same_way(loop, emulate):
    expected, _ = trained_through_trouble(loop, False, device="cpu")
    emulate()
    found, _ = trained_through_trouble(loop, False, told=False, device="cpu")
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p, q)


def steps(window, number):
    for _ in range(number):
        with window.displaced():
            sum(p.cosh().sum() for p in window.parameters).backward()
        window.step()


# Of nine steps enough are left for a copy to capture them while its window is open.
@pytest.mark.parametrize("length", [4, 9])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
def test_a_copy_in_mid_window_goes_on_as_the_window(copied, length, emulate):
    emulate()
    # So near to the bottom that its radius shrinks while the other's grows.
    weights = [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.full((4,), 5e-4))]
    window = Window(replace(InnerLoop.spectral(), steps=length), weights, INFOS[:2])
    for _ in range(3):
        steps(window, length)
        window.close()
    steps(window, 2)
    twin = copied(window)
    for _ in range(3):
        for each in (window, twin):
            while not each.is_full:
                steps(each, 1)
        record = window.close()
        assert repr(record) == repr(twin.close())
    assert record.radii["weight_ih"] > 1.2 * record.radii["bias"]


class Fails(L2Ball):
    """Reads the device from its fifth call on, as a graph may not."""

    calls = 0

    def atoms(self, gradients, infos=None, norms=None):
        Fails.calls += 1
        if Fails.calls > 4:
            assert gradients[0].sum().item() > -1e9
        return super().atoms(gradients, infos, norms)


@pytest.mark.filterwarnings("ignore:The inner loop cannot be captured as a CUDA graph")
@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
def test_a_capture_that_fails_leaves_nothing_behind(trajectory, emulate, monkeypatch):
    loop = InnerLoop(ball=L2Ball(radius=0.1), steps=3, trajectory=trajectory)
    expected = trained_through_trouble(loop, True, device="cpu")
    monkeypatch.setattr(Fails, "calls", 0)
    emulate()
    found = trained_through_trouble(replace(loop, ball=Fails(radius=0.1)), True, device="cpu")
    assert_same_way(found, expected)


class FailsAtItsEnd(EmulatedGraphs):
    """As where another thread did what breaks a capture: all was called by then."""

    def _record(self, function):
        super()._record(function)
        raise RuntimeError("capture invalidated")


@pytest.mark.filterwarnings("ignore:The inner loop cannot be captured as a CUDA graph")
@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
def test_a_capture_that_fails_at_its_end_leaves_nothing_behind(trajectory, emulate, monkeypatch):
    # Of first steps, which drop the window before.
    loop = InnerLoop(steps=1, step_size=ConstantStep(0.5), trajectory=trajectory)
    expected = trained_through_trouble(loop, True, device="cpu")
    emulate()
    monkeypatch.setattr("lightning_fw.window.graphs.Graphs", FailsAtItsEnd)
    found = trained_through_trouble(loop, True, device="cpu")
    assert EmulatedGraphs.replays == 2  # before its state is loaded, and after
    assert_same_way(found, expected)


@pytest.mark.filterwarnings("ignore:The inner loop cannot be captured as a CUDA graph")
def test_a_first_step_whose_capture_fails_forgets_the_sum_of_before(emulate, monkeypatch):
    directions = []
    for captures in (False, True):
        if captures:
            emulate()
            monkeypatch.setattr("lightning_fw.window.graphs.Graphs", FailsAtItsEnd)
        parameters = make_parameters()
        window = Window(InnerLoop(steps=2, trajectory="cumulative"), parameters)
        for _ in range(2):
            take_steps(window, parameters, 2)
            window.close()
        directions.append([p.grad for p in parameters])
    assert EmulatedGraphs.replays == 1
    torch.testing.assert_close(*directions)


def trained_now_and_then(loop, statistics):
    """Batches move all weights, some or none; the state of before them comes back in the midst."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(s, generator=generator)) for s in ((8, 3), (8,), (2, 8))]
    window = Window(loop, weights, INFOS[:3], statistics=statistics)
    outer, before, records = torch.optim.SGD(weights, lr=0.05), window.state_dict(), []
    for batch, moves in enumerate(torch.randint(3, (180,), generator=generator).tolist()):
        if batch == 90:
            window.load_state_dict(before)
        with window.displaced():
            target = torch.randn(8, 1, 1, generator=generator)
            moving = weights[: (0, 2, 3)[moves]] if batch > 20 else weights
            loss = sum((p - target).cosh().mean() for p in moving)
            if moving:
                loss.backward()
        window.step()
        if window.is_full:
            # The other of two ranks stands still.
            share = (1 + batch % 2) / 2
            records.append(window.close(reduce=lambda message, share=share: message * share))
            if window.has_direction:
                outer.step()
    return weights, records


@pytest.mark.parametrize("statistics", [False, True])
@pytest.mark.parametrize("sync", ["step", "restart"])
@pytest.mark.parametrize("loop", MORE)
def test_windows_that_are_not_like_others_are_not_replayed(loop, sync, statistics, emulate):
    loop = replace(loop, steps=3, sync=sync)
    expected = trained_now_and_then(loop, statistics)
    emulate()
    found = trained_now_and_then(loop, statistics)
    assert EmulatedGraphs.replays >= 2
    assert_same_way(found, expected)


def test_what_is_never_the_same_is_captured_no_more(emulate):
    emulate()
    graphs = EmulatedGraphs(torch.device("cpu"))
    for _ in range(2):
        for number in range(100):
            assert graphs.run(number, lambda tensors: 2 * tensors[0], [torch.ones(3)]).sum() == 6
    assert EmulatedGraphs.replays == 32


def test_a_state_stays_as_it_was_saved(emulate):
    weights = [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4))]
    window = Window(InnerLoop.spectral(), weights, INFOS[:2])
    steps(window, 2)
    window.close()
    state = window.state_dict()
    before = copy.deepcopy(state)
    window.load_state_dict(state)
    for _ in range(3):
        steps(window, 2)
        window.close()
    assert repr(state) == repr(before)


@pytest.mark.parametrize("told", [True, False])
def test_a_window_saved_while_its_end_is_waited_for_is_closed_as_it_would_be(told, monkeypatch):
    weights = [nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4))]
    window = Window(InnerLoop.spectral(), weights, INFOS[:2], statistics=told)
    steps(window, 2)
    window.close()
    steps(window, 2)
    saved = []
    save_and = {"read": scalars_module.Gathered.read, "untold": type(window._first_count).read}
    monkeypatch.setattr(
        scalars_module.Gathered,
        "read",
        lambda self: saved.append(copy.deepcopy(window.state_dict())) or save_and["read"](self),
    )
    monkeypatch.setattr(
        type(window._first_count),
        "read",
        lambda self: saved.append(copy.deepcopy(window.state_dict())) or save_and["untold"](self),
    )
    _ = window.close() if told else window.close_untold()
    monkeypatch.undo()
    for module in (scalars_module, displacement_module):
        monkeypatch.setattr(module, "on_host", lambda device: False)
    expected = [p.grad.clone() for p in weights]
    resumed = Window(InnerLoop.spectral(), weights, INFOS[:2], statistics=told)
    resumed.load_state_dict(saved[0])
    resumed.close()
    for p, direction in zip(weights, expected, strict=True):
        torch.testing.assert_close(p.grad, direction)
    torch.testing.assert_close(resumed.radius, window.radius)


def test_balls_that_read_the_device_or_may_do_so_are_not_captured():
    class OnesOwn(L2Ball):
        pass

    exact = SpectralBall(oracle="svd")
    assert all(map(_only_launches, (L2Ball(), SpectralBall(), ProductBall({"*": L2Ball()}))))
    for ball in (exact, OnesOwn()):
        assert not _only_launches(ball)
        assert not _only_launches(ProductBall({"head*": ball, "*": L2Ball()}))
