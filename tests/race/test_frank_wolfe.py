"""Windows in the race are those that their names and settings say."""

from __future__ import annotations

from dataclasses import asdict, replace

from lightning_fw.balls import L1Ball, L2Ball, LinfBall, NuclearBall, RMSBall, RowBall, SpectralBall
from lightning_fw.inner_loop import InnerLoop
from lightning_fw.race.frank_wolfe import windows
from lightning_fw.race.methods import METHODS
from lightning_fw.radius_rules import SlopeRatio


def test_an_inner_loop_is_the_one_of_its_setting():
    setting = {"radius": 0.03, "momentum": 0.6, "lr": 0.5, "steps": 7}
    assert METHODS["l2"].inner_loop(setting) == InnerLoop(ball=L2Ball(radius=0.03), steps=7)
    assert METHODS["spectral-fixed-radius"].inner_loop(setting).ball.radius == 0.03
    ball = SpectralBall(radius=0.03, scale_by_shape=True)
    assert METHODS["scion"].inner_loop(setting) == InnerLoop(
        ball=ball, steps=1, momentum=0.6, direction="displacement"
    )


def test_windows_of_a_sweep_are_the_preset_without_what_two_steps_are_for():
    ball = SpectralBall(radius=0.02, scale_by_shape=True)
    plain = {"recurrent_momentum": None, "nesterov": False, "whitening": None}
    expected = replace(InnerLoop.spectral(), ball=ball, radius_rule=SlopeRatio(), **plain)
    assert windows({}, steps=3, sync="restart") == replace(expected, steps=3, sync="restart")
    assert windows({}, steps=1) == replace(expected, steps=1, radius_rule=None)
    assert METHODS["local"].inner_loop({}) == replace(InnerLoop.spectral(), sync="restart")


def test_balls_of_an_ablation_are_those_of_its_name():
    spectral = InnerLoop.spectral()
    balls = {"l2": L2Ball, "rms": RMSBall, "linf": LinfBall, "l1": L1Ball, "nuclear": NuclearBall}
    for name, ball in balls.items():
        loop = METHODS[f"ball-{name}"].inner_loop({})
        assert loop.ball == ball(radius=spectral.ball.radius)
        rule = replace(spectral.radius_rule, minimum=1e-5, maximum=10.0)
        assert loop.radius_rule == rule
    of_others = {"input_power": 0.0}
    of_others |= dict.fromkeys(("input_radius", "input_limit", "symbol_radius"))
    radii = {
        "spectral-one-radius": {"gate_radius": 1.0, **of_others},
        "spectral-wide-inputs": of_others,
        "spectral-wide-head": {"head_radius": None},
    }
    for name, changed in radii.items():
        assert METHODS[name].inner_loop({}).ball == replace(spectral.ball, **changed)


def test_the_ball_per_unit_has_a_higher_floor_and_smaller_radii_for_narrow_inputs():
    spectral, rows = InnerLoop.spectral(), METHODS["l2-rows"].inner_loop({})
    assert isinstance(rows.ball, RowBall)
    radii = asdict(rows.ball)
    own = {"input_radius": 2.25, "input_power": 1 / 6}
    assert radii == {name: getattr(spectral.ball, name) for name in radii} | own
    rule = replace(spectral.radius_rule, minimum=8e-3)
    assert rows == replace(spectral, ball=rows.ball, radius_rule=rule)
    assert METHODS["l2-rows"].averaged
