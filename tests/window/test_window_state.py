"""A window that is saved, loaded or succeeded goes on where it was."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn

from lightning_fw import InnerLoop, L2Ball, NoiseFloor, OpenLoop, SlopeRatio
from lightning_fw.balls._base import Atoms
from lightning_fw.window import Window
from lightning_fw.window.displacement import Displacement
from tests.window.convex_loss import all_equal, distance_to, make_parameters, take_steps

STATEFUL = [
    InnerLoop(steps=4),
    InnerLoop(steps=4, trajectory="cumulative", momentum=0.9, step_size=OpenLoop()),
    InnerLoop(steps=4, radius_rule=SlopeRatio(), direction="displacement", momentum=0.5),
    InnerLoop(steps=4, radius_rule=SlopeRatio(own_share=0.5), momentum=0.5),
    InnerLoop(steps=4, restart_when=NoiseFloor(), radius_rule=lambda t: 1 / (t + 1)),
]


def run(window, parameters, steps):
    records = []
    for _ in range(steps):
        take_steps(window, parameters, 1)
        if window.is_full:
            records.append(window.close())
            torch.optim.SGD(parameters, lr=0.1).step()
    return records


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("loop", STATEFUL)
@pytest.mark.parametrize("steps_before", [0, 4, 6, 8])
def test_a_saved_window_goes_on_to_the_last_bit(loop, steps_before):
    """Saved in mid-window and between windows."""
    straight = make_parameters()
    expected = run(Window(loop, straight), straight, 16)

    parameters = make_parameters()
    window = Window(loop, parameters)
    run(window, parameters, steps_before)
    resumed = [nn.Parameter(p.detach().clone()) for p in parameters]
    again = Window(loop, resumed)
    again.load_state_dict(through_a_file(window.state_dict()))
    records = run(again, resumed, 16 - steps_before)
    assert all_equal(resumed, straight)
    assert repr(records) == repr(expected[-len(records) :])


@pytest.mark.parametrize("loop", STATEFUL)
def test_a_window_saved_at_its_end_tells_what_it_would_have_told(loop):
    """As one is where the restart itself fails: no step of its own comes after it."""
    parameters = make_parameters()
    window, again = Window(loop, parameters), Window(loop, parameters)
    run(window, parameters, 4)
    take_steps(window, parameters, loop.steps)
    again.load_state_dict(through_a_file(window.state_dict()))
    expected = window.close()
    directions = [p.grad.clone() for p in parameters]
    assert repr(again.close()) == repr(expected)
    assert all_equal([p.grad for p in parameters], directions)
    assert len({expected.gap_first, expected.gap_last}) == 2
    assert len({expected.loss_first, expected.loss_last}) == 2


@pytest.mark.parametrize("loop", STATEFUL)
@pytest.mark.parametrize("steps_before", [0, 4, 6, 8])
def test_a_successor_goes_on_to_the_last_bit(loop, steps_before):
    """So does a window that loads its state, saved before it has taken a step of its own."""
    straight, parameters = make_parameters(), make_parameters()
    expected = run(Window(loop, straight), straight, 16)

    window, successor = Window(loop, parameters), Window(loop, parameters)
    run(window, parameters, steps_before)
    state = repr(window.state_dict())
    successor.succeed(window)
    assert repr(successor.state_dict()) == state
    resumed = [nn.Parameter(p.detach().clone()) for p in parameters]
    loaded = Window(loop, resumed)
    loaded.load_state_dict(successor.state_dict())
    for goes_on, own in ((successor, parameters), (loaded, resumed)):
        records = run(goes_on, own, 16 - steps_before)
        assert all_equal(own, straight)
        assert repr(records) == repr(expected[-len(records) :])


def test_what_waits_for_a_step_goes_on_to_a_successor_and_through_a_file():
    found = []
    for way in ("straight", "successor", "file"):
        parameters = make_parameters()
        window = before = Window(InnerLoop(steps=1), parameters)
        for scale in (1.0, -3.0):
            loss = distance_to(parameters[1:], 0.5, scale)
            loss.backward()
            window.accumulate(loss)
        distance_to(parameters, 0.5).backward()
        window.accumulate()
        window.skip()
        if way == "successor":
            window = Window(
                InnerLoop(steps=1), [*parameters[1:], *make_parameters(), parameters[0]]
            )
            window.succeed(before)
        elif way == "file":
            window = Window(InnerLoop(steps=1), parameters)
            window.load_state_dict(through_a_file(before.state_dict()))
        assert window.holds == 4
        loss = distance_to(parameters, 0.5)
        loss.backward()
        window.step(loss)
        assert window.holds == 0
        found.append((window.close().loss_first, [p.grad for p in parameters]))
    assert found[0][0] == found[1][0] == found[2][0]
    assert all_equal(found[0][1], found[1][1])
    assert all_equal(found[0][1], found[2][1])


@pytest.mark.parametrize("loop", STATEFUL)
def test_a_state_stays_what_it_was(loop):
    """Whatever becomes of the window that it was taken of, and of one that loads it."""
    parameters = make_parameters()
    window, again = Window(loop, parameters), Window(loop, parameters)
    run(window, parameters, 4)
    take_steps(window, parameters[1:], 2)
    state = window.state_dict()
    before = repr(state)
    run(window, parameters, 6)
    assert repr(state) == before
    again.load_state_dict(state)
    assert repr(again.state_dict()) == before
    run(again, parameters, 6)
    assert repr(state) == before


def test_a_state_of_batches_that_wait_for_a_step_stays_what_it_was():
    parameters = make_parameters()
    window, again = (Window(InnerLoop(), parameters) for _ in range(2))

    def hold(window):
        loss = distance_to(parameters, 0.5)
        loss.backward()
        window.accumulate(loss)

    hold(window)
    state = window.state_dict()
    before = repr(state)
    hold(window)
    assert repr(state) == before
    again.load_state_dict(state)
    hold(again)
    assert repr(state) == before


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


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"momentum": 0.9}, "momentum was 0.0, is 0.9"),
        ({"ball": L2Ball(radius=10.0)}, r"ball was .*radius=0.01.*, is .*radius=10.0,"),
        ({"steps": 2}, "steps was 5, is 2"),
        ({"trajectory": "cumulative"}, "trajectory was 'anchored', is 'cumulative'"),
        ({"radius_rule": SlopeRatio()}, "radius_rule was None, is SlopeRatio"),
    ],
)
def test_a_state_of_other_settings_is_refused(other, what):
    parameters = make_parameters()
    window = Window(InnerLoop(), parameters)
    take_steps(window, parameters, 2)
    before = Window(InnerLoop(**other), parameters)
    with pytest.raises(ValueError, match=f"`state` must be of the same settings, got .*{what}"):
        before.load_state_dict(window.state_dict())
    assert before.is_fresh


def test_a_state_of_something_else_is_refused():
    with pytest.raises(ValueError, match="`state` must be a window's, got the keys a, 1. Pass"):
        Window(InnerLoop(), make_parameters()).load_state_dict({"a": 1, 1: 2})


def test_copies_of_the_anchor_stay_what_they_were():
    parameters = make_parameters()
    window, anchor = Window(InnerLoop(steps=2), parameters), [p.tolist() for p in parameters]
    take_steps(window, parameters, 1)
    assert window.anchor.copies() == []
    with window.displaced():
        kept = window.anchor.copies()
        distance_to(parameters, 0.5).backward()
    window.step()
    window.close()
    torch.optim.SGD(parameters, lr=1.0).step()
    take_steps(window, parameters, 2)
    assert all(p is parameter for (p, _), parameter in zip(kept, parameters, strict=True))
    assert [copy.tolist() for _, copy in kept] == anchor


@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
def test_a_displacement_is_told_in_another_radius(trajectory):
    parameters, cumulative = make_parameters(), trajectory == "cumulative"
    displacement = Displacement(parameters, cumulative=cumulative)
    atoms = Atoms([torch.ones_like(p) for p in parameters], [0.5] * len(parameters))
    for gamma in (1.0, 0.5):
        displacement.toward(atoms, range(len(parameters)), gamma, 1, noise=True)
    (offsets, factor), noise = displacement.offsets, displacement.noise
    before = [tensor * factor for tensor in offsets]
    displacement.rescale(4.0)
    offsets, factor = displacement.offsets
    for tensor, told in zip(offsets, before, strict=True):
        torch.testing.assert_close(tensor * factor, 4 * told)
    assert displacement.noise == 16 * noise > 0


@pytest.mark.parametrize("radius", [np.float64(0.01), 1])
def test_equal_settings_are_the_same_however_they_are_written(radius):
    parameters = make_parameters()
    saved = Window(InnerLoop(ball=L2Ball(radius=radius)), parameters)
    take_steps(saved, parameters, 2)
    loaded = Window(InnerLoop(ball=L2Ball(radius=float(radius))), parameters)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.k == saved.k == 2
    saved.close()
    directions = [p.grad.clone() for p in parameters]
    loaded.close()
    assert all_equal([p.grad for p in parameters], directions)


def test_untold_windows_without_a_step_have_no_direction_whatever_was_before():
    parameters = make_parameters()
    loop = InnerLoop(steps=2)
    window, skipped = (Window(loop, parameters, statistics=False) for _ in range(2))
    take_steps(window, parameters, 1)
    window.close_untold()
    assert window.has_direction
    window.close_untold()
    assert not window.has_direction
    take_steps(skipped, parameters, 1, scale=float("nan"))
    take_steps(window, parameters, 1)
    window.load_state_dict(skipped.state_dict())
    window.close_untold()
    assert not window.has_direction


def test_a_window_without_statistics_goes_on_to_a_successor_and_through_a_file():
    straight, parameters = make_parameters(), make_parameters()
    loop = InnerLoop(steps=3)
    window, again, successor = (Window(loop, parameters, statistics=False) for _ in range(3))
    take_steps(window, parameters, 1)
    again.load_state_dict(through_a_file(window.state_dict()))
    take_steps(again, parameters, 1)
    successor.succeed(again)
    take_steps(successor, parameters, 1)
    successor.close()
    window = Window(loop, straight)
    take_steps(window, straight, 3)
    window.close()
    assert all_equal([p.grad for p in parameters], [p.grad for p in straight])
