"""Frank-Wolfe in the race: the presets, and what each of their parts is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    NuclearBall,
    RMSBall,
    RowBall,
    SpectralBall,
)
from lightning_fw.inner_loop import InnerLoop, Sync, Trajectory
from lightning_fw.race.baselines import adam
from lightning_fw.race.method import Method
from lightning_fw.race.search_space import Range, Setting
from lightning_fw.radius_rules import SlopeRatio
from lightning_fw.step_sizes import Harmonic

_RADIUS = Range(1e-3, 1e-1)
_STEPS = Range(1, 10, whole=True)
_LR = Range(3e-4, 3e-2)


def _spectral(setting: Setting, **changes: Any) -> InnerLoop:
    """The preset, but for some of its settings."""
    return replace(InnerLoop.spectral(), **changes)


def _paper(setting: Setting, *, trajectory: Trajectory = "anchored") -> InnerLoop:
    """The paper's l2 ball with K and its radius apart from the learning rate of Adam."""
    ball = L2Ball(radius=setting["radius"])
    return InnerLoop(ball=ball, steps=int(setting["steps"]), trajectory=trajectory)


def windows(setting: Setting, *, steps: int, sync: Sync = "step") -> InnerLoop:
    """Plain spectral windows of K steps, for a sweep over K that ranks run apart.

    Their radius starts at 0.02 and follows ``SlopeRatio()``; with one step it stays there, since
    the rule compares two slopes.
    """
    return replace(
        InnerLoop.spectral(),
        ball=SpectralBall(radius=0.02, scale_by_shape=True),
        recurrent_momentum=None,
        nesterov=False,
        whitening=None,
        steps=steps,
        radius_rule=None if steps == 1 else SlopeRatio(),
        sync=sync,
    )


_INPUTS_LIKE_OTHER_GATES: dict[str, Any] = {
    "input_radius": None,
    "input_power": 0.0,
    "input_limit": None,
    "symbol_radius": None,
}


def _with_radii(setting: Setting, **radii: Any) -> InnerLoop:
    loop = InnerLoop.spectral()
    assert isinstance(loop.ball, SpectralBall)
    return replace(loop, ball=replace(loop.ball, **radii))


def _fixed_radius(setting: Setting, **changes: Any) -> InnerLoop:
    """The preset at a radius of its own, for what SlopeRatio cannot set one."""
    loop = InnerLoop.spectral()
    ball = replace(loop.ball, radius=setting["radius"])
    return replace(loop, ball=ball, radius_rule=None, **changes)


def _with_ball(setting: Setting, *, make_ball: Callable[..., Ball]) -> InnerLoop:
    """The preset with another ball, whose radius sets itself likewise, in units of its own."""
    loop = InnerLoop.spectral()
    assert isinstance(loop.radius_rule, SlopeRatio)
    rule = replace(loop.radius_rule, minimum=1e-5, maximum=10.0)
    return replace(loop, ball=make_ball(radius=loop.ball.radius), radius_rule=rule)


def _rows(setting: Setting) -> InnerLoop:
    """The preset with the paper's l2 ball, one for each unit's weights.

    Its radius has a higher floor: below it the slopes would shrink it for nothing. Gates that read
    few values have hardly more than others: each unit moves by as much, so that all of a gate go as
    far together as in a larger spectral ball.
    """
    loop = InnerLoop.spectral()
    assert isinstance(loop.radius_rule, SlopeRatio)
    shared = {each.name: getattr(loop.ball, each.name) for each in fields(RowBall)}
    ball = RowBall(**shared | {"input_radius": 2.25, "input_power": 1 / 6})
    return replace(loop, ball=ball, radius_rule=replace(loop.radius_rule, minimum=8e-3))


_L2 = Method(
    name="l2",
    title="Frank-Wolfe, l2 at its best",
    family="Frank-Wolfe",
    inner_loop=_paper,
    optimizer=adam,
    space={"radius": _RADIUS, "lr": _LR, "steps": _STEPS},
    usual={"radius": 0.01, "lr": 0.01, "steps": 5},
)

_SPECTRAL = Method(
    name="spectral",
    title="Frank-Wolfe, spectral",
    family="Frank-Wolfe",
    inner_loop=_spectral,
    averaged=True,
)

PRESETS = (
    _SPECTRAL,
    Method(
        name="local",
        title="Frank-Wolfe, local windows",
        family="Frank-Wolfe",
        inner_loop=partial(_spectral, sync="restart"),
        ranks_only=True,
    ),
    replace(
        _SPECTRAL,
        name="spectral-tbptt",
        title="Frank-Wolfe, spectral, truncated",
        in_chunks=True,
    ),
    Method(
        name="paper",
        title="Frank-Wolfe, paper",
        family="Frank-Wolfe",
        inner_loop=lambda setting: InnerLoop.paper(),
    ),
    Method(
        name="authors",
        title="Frank-Wolfe, authors",
        family="Frank-Wolfe",
        inner_loop=lambda setting: InnerLoop.authors(setting["lr"]),
        space={"lr": _LR},
        usual={"lr": 0.003},
    ),
    _L2,
    Method(
        name="l2-rows",
        title="Frank-Wolfe, l2 ball per unit",
        family="Frank-Wolfe",
        inner_loop=_rows,
        averaged=True,
    ),
)

ABLATIONS = (
    replace(
        _L2,
        name="l2-fixed-anchor",
        title="K l2 atoms at the anchor",
        inner_loop=partial(_paper, trajectory="fixed"),
    ),
    replace(
        _SPECTRAL,
        name="spectral-fixed-radius",
        title="spectral, fixed radius",
        inner_loop=_fixed_radius,
        space={"radius": _RADIUS},
        usual={"radius": 0.005},
    ),
    replace(
        _SPECTRAL,
        name="spectral-fixed-anchor",
        title="spectral atoms at the anchor",
        inner_loop=partial(_fixed_radius, trajectory="fixed"),
        space={"radius": _RADIUS},
        usual={"radius": 0.005},
    ),
    replace(
        _SPECTRAL,
        name="spectral-k1",
        title="spectral, K = 1",
        inner_loop=partial(_fixed_radius, steps=1),
        space={"radius": _RADIUS},
        usual={"radius": 0.01},
    ),
    replace(
        _SPECTRAL,
        name="spectral-last-anchor",
        title="spectral, the latest anchor measured",
        averaged=False,
    ),
    replace(
        _SPECTRAL,
        name="spectral-harmonic",
        title="spectral, γ = 1/k",
        inner_loop=partial(_spectral, step_size=Harmonic()),
    ),
    replace(
        _SPECTRAL,
        name="spectral-no-momentum",
        title="spectral, no momentum before the oracle, nor whitening",
        inner_loop=partial(
            _spectral, momentum=0.0, recurrent_momentum=None, nesterov=False, whitening=None
        ),
    ),
    replace(
        _SPECTRAL,
        name="spectral-one-momentum",
        title="spectral, recurrent weights of the others' momentum",
        inner_loop=partial(_spectral, recurrent_momentum=None),
    ),
    replace(
        _SPECTRAL,
        name="spectral-no-nesterov",
        title="spectral, momentum not Nesterov's",
        inner_loop=partial(_spectral, nesterov=False),
    ),
    replace(
        _SPECTRAL,
        name="spectral-unwhitened",
        title="spectral, not whitened",
        inner_loop=partial(_spectral, whitening=None),
    ),
    replace(
        _SPECTRAL,
        name="spectral-one-radius",
        title="spectral, gates of the others' radius",
        inner_loop=partial(_with_radii, gate_radius=1.0, **_INPUTS_LIKE_OTHER_GATES),
    ),
    replace(
        _SPECTRAL,
        name="spectral-wide-inputs",
        title="spectral, gates that read the input of the others' radius",
        inner_loop=partial(_with_radii, **_INPUTS_LIKE_OTHER_GATES),
    ),
    replace(
        _SPECTRAL,
        name="spectral-wide-head",
        title="spectral, head of the radius of other matrices",
        inner_loop=partial(_with_radii, head_radius=None),
    ),
    *(
        replace(
            _SPECTRAL,
            name=f"spectral-k{steps}",
            title=f"spectral, K = {steps}",
            inner_loop=partial(_spectral, steps=steps),
        )
        for steps in (3, 5, 10)
    ),
    *(
        replace(
            _SPECTRAL,
            name=f"ball-{name}",
            title=f"{title} ball, its radius set by slopes",
            inner_loop=partial(_with_ball, make_ball=ball),
        )
        for name, title, ball in (
            ("l2", "l2", L2Ball),
            ("rms", "RMS", RMSBall),
            ("linf", "l∞", LinfBall),
            ("l1", "l1", L1Ball),
            ("nuclear", "nuclear", NuclearBall),
        )
    ),
)
