"""Tensors with radii of their own: the product of their balls, and what windows tell of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lightning_fw import (
    InnerLoop,
    L2Ball,
    LinfBall,
    NuclearBall,
    OpenLoop,
    ProductBall,
    RowBall,
    ShortStep,
    SlopeRatio,
    SpectralBall,
)
from lightning_fw.parameters import ParameterInfo
from lightning_fw.window import Window
from tests.window.convex_loss import make_parameters, take_steps

RULE = SlopeRatio(own_share=0.75, rate=0.5, minimum=1e-3, maximum=5.0)
INFOS = [ParameterInfo("a"), ParameterInfo("b"), ParameterInfo("c")]
BALLS = [
    L2Ball(radius=0.1),
    LinfBall(radius=0.1),
    SpectralBall(radius=0.1, oracle="svd", scale_by_shape=True),
    RowBall(radius=0.1, scale_by_shape=True),
    NuclearBall(radius=0.1),
    ProductBall({"a": LinfBall(radius=0.1), "*": L2Ball(radius=0.5)}, radius=1.0),
]


def radii_of(window: Window) -> list[float]:
    return window.state_dict()["slopes"]["radius"]["radius"].tolist()


def parted(ball=BALLS[0], **settings):
    """A window that opens with radii far apart, and its parameters."""
    parameters = make_parameters()
    settings = {"steps": 3, "step_size": OpenLoop(), "radius_rule": RULE, **settings}
    window = Window(InnerLoop(ball=ball, direction="displacement", **settings), parameters, INFOS)
    for _ in range(2):
        take_steps(window, parameters, 3)
        window.close()
    state = window.state_dict()
    # Their mean is not the radius that the ball was given.
    state["slopes"]["radius"]["radius"] = torch.tensor([0.02, 0.5, 0.2])
    window.load_state_dict(state)
    return window, parameters


@pytest.mark.parametrize("settings", [{}, {"step_size": ShortStep(10.0)}, {"momentum": 0.5}])
@pytest.mark.parametrize("ball", BALLS, ids=lambda ball: type(ball).__name__)
def test_the_displacement_stays_in_the_product_of_balls(ball, settings):
    window, parameters = parted(ball, **settings)
    radii = radii_of(window)
    take_steps(window, parameters, 3)
    record = window.close()
    norms = [float(ball.norm([p.grad], [info])) for p, info in zip(parameters, INFOS, strict=True)]
    usages = [norm / radius for norm, radius in zip(norms, radii, strict=True)]
    assert max(usages) <= 1 + 1e-5
    assert max(usages) > 0.5, "some tensor should make use of its ball"
    assert record.ball_usage == pytest.approx(sum(usages) / 3, rel=0.05)
    assert record.ball_usage <= 1 + 1e-5


def test_the_record_tells_every_radius():
    window, parameters = parted()
    radii = radii_of(window)
    take_steps(window, parameters, 3)
    told = window.close().radii
    assert told == pytest.approx(dict(zip("abc", radii, strict=True)), rel=1e-6)


def test_radii_of_parameters_without_names_are_told_by_their_places():
    parameters = make_parameters()
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), radius_rule=RULE), parameters)
    take_steps(window, parameters, 5)
    assert window.close().radii == pytest.approx({"0": 0.1, "1": 0.1, "2": 0.1})


def test_one_radius_for_all_is_told_once():
    parameters = make_parameters()
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), radius_rule=SlopeRatio()), parameters)
    take_steps(window, parameters, 3)
    record = window.close()
    assert record.radii == {}
    assert record.radius == pytest.approx(0.1)


def test_the_windows_radius_is_the_geometric_mean():
    window, _ = parted()
    assert window.radius == pytest.approx(math.prod(radii_of(window)) ** (1 / 3), rel=1e-6)


def test_equal_radii_are_the_windows_to_the_last_bit():
    window = Window(InnerLoop(ball=L2Ball(radius=0.1), radius_rule=RULE), make_parameters())
    assert window.radius == radii_of(window)[0]


def test_the_gap_at_the_anchor_is_that_of_the_product():
    window, parameters = parted()
    radii = radii_of(window)
    with window.displaced():
        sum(p.square().sum() for p in parameters).backward()
    norms = [float(p.grad.norm()) for p in parameters]
    window.step()
    gap = sum(radius * norm for radius, norm in zip(radii, norms, strict=True))
    assert window.close().gap_first == pytest.approx(gap, rel=1e-6)


def test_a_parameter_without_gradients_follows_the_sums_until_it_has_some():
    rule = SlopeRatio(own_share=1.0, rate=0.3)
    parameters = make_parameters()[:2]
    loop = InnerLoop(ball=L2Ball(radius=0.1), steps=2, radius_rule=rule)
    window, outer = Window(loop, parameters), torch.optim.SGD(parameters, lr=0.1)
    for restart in range(8):
        take_steps(window, parameters[: 1 if restart < 4 else 2], 2)
        window.close()
        outer.step()
        radii = radii_of(window)
        assert (radii[0] == radii[1]) == (restart < 4)
    assert radii[0] != pytest.approx(0.1, rel=0.1)


def test_a_parameter_that_misses_a_step_has_the_slope_0_there():
    window, parameters = parted()
    before = window.state_dict()["slopes"]["radius"]
    take_steps(window, parameters[1:], 1)
    take_steps(window, parameters, 2)
    window.close()
    after = window.state_dict()["slopes"]["radius"]
    assert after["anchor_slope"][0] == pytest.approx(RULE.decay * before["anchor_slope"][0])
    assert after["end_slope"][0] != pytest.approx(RULE.decay * before["end_slope"][0])
    assert after["anchor_slope"][1] != pytest.approx(RULE.decay * before["anchor_slope"][1])


def test_a_parameter_without_a_gradient_leaves_the_others_their_own_radii():
    window, parameters = parted()
    radii = radii_of(window)
    take_steps(window, parameters[1:], 1)
    window.close()
    assert parameters[0].grad is None
    norms = [float(p.grad.norm()) for p in parameters[1:]]
    assert norms == pytest.approx(radii[1:], rel=1e-6)


def test_a_window_of_one_step_leaves_the_radii_as_they_are():
    window, parameters = parted()
    before = window.state_dict()["slopes"]["radius"]
    take_steps(window, parameters, 1)
    record = window.close()
    after = window.state_dict()["slopes"]["radius"]
    assert record.steps == 1
    assert {k: v.tolist() for k, v in after.items()} == {k: v.tolist() for k, v in before.items()}


def test_a_parameter_that_joins_in_mid_window_has_no_slopes_of_its_own():
    window, parameters = parted()
    take_steps(window, parameters, 2)
    joined = nn.Parameter(torch.ones(2, dtype=torch.float64))
    successor = Window(window.inner_loop, [*parameters, joined])
    successor.succeed(window)
    take_steps(successor, parameters, 1)
    successor.close()
    state = successor.state_dict()["slopes"]["radius"]
    assert state["anchor_slope"][3] == state["end_slope"][3] == 0
    assert state["updates"] == 2, "nor does it keep the others from theirs"


def test_a_window_on_other_parameters_keeps_the_radii_of_those_that_stay():
    window, parameters = parted()
    radii, slopes = radii_of(window), window.state_dict()["slopes"]["radius"]
    joined = make_parameters()[0]
    successor = Window(window.inner_loop, [parameters[2], joined, parameters[0]])
    successor.succeed(window)
    assert radii_of(successor) == [radii[2], pytest.approx(window.radius), radii[0]]
    state = successor.state_dict()["slopes"]["radius"]
    for name in ("anchor_slope", "end_slope"):
        assert state[name].tolist() == [slopes[name][2], 0.0, slopes[name][0]]
    assert state["updates"] == slopes["updates"] == 1
    take_steps(successor, successor.parameters, 3)
    assert successor.close().steps == 3


def test_a_state_of_another_number_of_radii_is_refused():
    window, parameters = parted()
    fewer = Window(window.inner_loop, parameters[:1])
    with pytest.raises(ValueError, match="`state` has radii of 3 tensors, expected 1. Load it"):
        fewer.load_state_dict(window.state_dict())
    with pytest.raises(ValueError, match="`state` has radii of 1 tensors, expected 3. Load it"):
        window.load_state_dict(fewer.state_dict())


@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
def test_a_window_without_one_of_its_parameters_stands_where_it_stood(trajectory):
    steep, flat = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    rule = SlopeRatio(own_share=1.0, early_rate=1.0)
    loop = InnerLoop(ball=L2Ball(radius=0.1), steps=3, radius_rule=rule, trajectory=trajectory)
    window, slope = Window(loop, [flat, steep]), torch.tensor([1.0, 2.0, 3.0])
    for _ in range(32):
        with window.displaced():
            ((flat * slope).sum() + 50 * (steep - 1).square().sum() + 0.1 * steep.sum()).backward()
        window.step()
        if window.is_full:
            window.close()
    with window.displaced():
        before = flat.detach().clone()
    successor = Window(loop, [flat])
    successor.succeed(window)
    # Along the sum of displacements both tensors have the same radius, and the same mean.
    assert (successor.radius == pytest.approx(window.radius)) == (trajectory == "cumulative")
    with successor.displaced():
        torch.testing.assert_close(flat.data, before)
    assert not torch.equal(before, torch.ones(3))
