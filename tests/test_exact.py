"""The whole package against the reference: the same weights after two epochs, to 1e-9.

Seven batches an epoch, so that with K = 3 and K = 5 the epoch's end cuts the last window short;
the seventh batch is smaller than the others; the outer optimizer has two param groups.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch

from lightning_fw import (
    ConstantStep,
    Harmonic,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    OpenLoop,
    ShortStep,
)

from .reference import oracles, step_sizes
from .reference.elman import Batch, Weights, gradient, initial_weights, sequences
from .reference.lightning_net import GROUPS, MakeOptimizer, Net, fit
from .reference.outer import SGD, Adam, Outer
from .reference.training import Plan, train
from .reference.windows import cut

TOLERANCE = 1e-9
BATCH_SIZE = 6
EPOCHS = 2

BALLS = {
    "l1": (L1Ball(radius=0.3), oracles.l1),
    "l2": (L2Ball(radius=0.2), oracles.l2),
    "linf": (LinfBall(radius=0.1), oracles.linf),
    "l3": (LpBall(3.0, radius=0.2), oracles.lp(3.0)),
}

STEP_SIZES = {
    "harmonic": (Harmonic(), step_sizes.harmonic),
    "open loop": (OpenLoop(), step_sizes.open_loop),
    "constant": (ConstantStep(0.3), step_sizes.constant(0.3)),
    "short": (ShortStep(10.0), step_sizes.short(10.0)),
}


@dataclass(frozen=True)
class OuterPair:
    """The same optimizer twice; `rates` of the two param groups."""

    torch: MakeOptimizer
    numpy: Callable[[dict[str, float]], Outer]
    rates: tuple[float, float]


OUTERS = {
    "sgd": OuterPair(torch.optim.SGD, SGD, (0.2, 0.1)),
    "sgd nesterov": OuterPair(
        lambda groups: torch.optim.SGD(groups, momentum=0.5, nesterov=True),
        lambda rates: SGD(rates, momentum=0.5, nesterov=True),
        (0.2, 0.1),
    ),
    "adam decay": OuterPair(
        lambda groups: torch.optim.Adam(groups, weight_decay=0.1),
        lambda rates: Adam(rates, weight_decay=0.1),
        (0.03, 0.02),
    ),
    "adamw": OuterPair(
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.1),
        lambda rates: Adam(rates, weight_decay=0.1, decoupled=True),
        (0.03, 0.02),
    ),
}


@dataclass(frozen=True)
class Setting:
    """One way to train, told to both sides."""

    ball: str = "l2"
    scope: str = "tensor"
    steps: int = 3
    step_size: str = "harmonic"
    trajectory: str = "anchored"
    batches: str = "successive"
    outer: str = "sgd"
    momentum: float = 0.0
    direction: str = "unit"


DATA = sequences(seed=1)
START = initial_weights(seed=0)


def trained(setting: Setting, kind: type[Net] = Net, data: Batch = DATA) -> Net:
    """The module after a real Trainer's fit."""
    outer = OUTERS[setting.outer]
    inner = InnerLoop(
        ball=replace(BALLS[setting.ball][0], scope=setting.scope),
        steps=setting.steps,
        step_size=STEP_SIZES[setting.step_size][0],
        batches=setting.batches,
        trajectory=setting.trajectory,
        momentum=setting.momentum,
        direction=setting.direction,
    )
    net = kind(START, inner, outer.torch, outer.rates)
    fit(net, data, batch_size=BATCH_SIZE, epochs=EPOCHS)
    return net


def by_reference(setting: Setting, data: Batch = DATA) -> Weights:
    """The weights after the reference's training."""
    ball, oracle = BALLS[setting.ball]
    outer = OUTERS[setting.outer]
    plan = Plan(
        oracle=oracle,
        radius=ball.radius,
        scope=setting.scope,
        steps=setting.steps,
        step_size=STEP_SIZES[setting.step_size][1],
        batches=setting.batches,
        trajectory=setting.trajectory,
        momentum=setting.momentum,
        direction=setting.direction,
    )
    rates = {name: outer.rates[i] for i, names in enumerate(GROUPS) for name in names}
    return train(
        START,
        cut(data, BATCH_SIZE),
        plan=plan,
        groups=GROUPS,
        outer=outer.numpy(rates),
        gradient=gradient,
        epochs=EPOCHS,
    )


def distance(weights: Weights, reference: Weights) -> float:
    """The largest relative distance ‖w − w_ref‖ / ‖w_ref‖ of any parameter."""
    assert weights.keys() == reference.keys()
    norm = np.linalg.norm
    return max(norm(weights[name] - w) / norm(w) for name, w in reference.items())


def assert_exact(setting: Setting) -> None:
    """Package and reference agree, and the training went somewhere."""
    expected = by_reference(setting)
    assert distance(START, expected) > 0.01, setting
    assert distance(trained(setting).weights(), expected) < TOLERANCE, setting


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
@pytest.mark.parametrize("trajectory", ["anchored", "cumulative"])
@pytest.mark.parametrize("ball", BALLS)
def test_trained_weights_equal_the_reference(ball: str, trajectory: str, batches: str) -> None:
    scopes, outers = ("tensor", "group", "global"), ("sgd", "adam decay")
    for scope, steps, rule, outer in product(scopes, (1, 3, 5), ("harmonic", "open loop"), outers):
        assert_exact(Setting(ball, scope, steps, rule, trajectory, batches, outer))


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
@pytest.mark.parametrize("trajectory", ["anchored", "cumulative", "fixed"])
def test_momentum_averages_gradients_across_restarts(trajectory: str, batches: str) -> None:
    for ball, scope in product(BALLS, ("tensor", "global")):
        assert_exact(
            Setting(ball, scope, 3, "open loop", trajectory, batches, "sgd nesterov", momentum=0.9)
        )


@pytest.mark.filterwarnings("ignore:`configure_optimizers` gave")
@pytest.mark.parametrize("outer", OUTERS)
@pytest.mark.parametrize("ball", BALLS)
def test_displacement_is_the_direction_of_length_d(ball: str, outer: str) -> None:
    for steps, momentum in ((3, 0.0), (5, 0.9)):
        setting = Setting(ball, "group", steps, outer=outer, momentum=momentum)
        assert_exact(replace(setting, direction="displacement"))


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
@pytest.mark.parametrize("ball", BALLS)
def test_constant_step_equals_the_reference(ball: str, batches: str) -> None:
    for trajectory, outer in product(("anchored", "cumulative"), ("sgd", "adamw")):
        assert_exact(Setting(ball, "tensor", 5, "constant", trajectory, batches, outer))


@pytest.mark.parametrize("scope", ["tensor", "group", "global"])
@pytest.mark.parametrize("ball", BALLS)
def test_short_step_equals_the_reference(ball: str, scope: str) -> None:
    for batches, momentum in product(("successive", "same"), (0.0, 0.9)):
        assert_exact(Setting(ball, scope, 5, "short", batches=batches, momentum=momentum))


class NetWithSpare(Net):
    """Its second param group also holds a parameter that no loss ever reaches."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        self.spare = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = super().configure_optimizers()
        optimizer.param_groups[1]["params"].append(self.spare)
        return optimizer


@pytest.mark.parametrize("scope", ["tensor", "group", "global"])
def test_a_parameter_without_a_gradient_is_left_alone(scope: str) -> None:
    setting = Setting(scope=scope, outer="adamw")
    net = trained(setting, NetWithSpare)
    assert net.spare.grad is None
    assert net.spare.tolist() == [1.0, 1.0, 1.0]
    assert distance(net.weights(), by_reference(setting)) < TOLERANCE


@pytest.mark.parametrize("count", [1, 3])
def test_a_batch_with_fewer_samples_than_steps_splits_into_single_samples(count: int) -> None:
    data = sequences(seed=2, count=2 * BATCH_SIZE + count)
    setting = Setting(steps=5, batches="split", momentum=0.9)
    ours = trained(setting, data=data).weights()
    assert distance(ours, by_reference(setting, data)) < TOLERANCE


def test_every_option_moves_the_weights() -> None:
    """The tolerance separates the settings: changing any one option is seen."""
    base = Setting(steps=5)
    changes: list[dict[str, object]] = [
        {"ball": "l1"},
        {"ball": "l3"},
        {"scope": "group"},
        {"scope": "global"},
        {"steps": 4},
        {"step_size": "open loop"},
        {"step_size": "short"},
        {"trajectory": "cumulative"},
        {"trajectory": "fixed"},
        {"batches": "same"},
        {"batches": "split"},
        {"outer": "sgd nesterov"},
        {"momentum": 0.9},
        {"direction": "displacement"},
    ]
    reference = by_reference(base)
    for change in changes:
        changed = by_reference(replace(base, **change))
        assert distance(changed, reference) > 1e6 * TOLERANCE, change
