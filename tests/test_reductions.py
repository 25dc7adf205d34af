"""What the method is when an option is trivial: known algorithms, written here in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import lightning as L
import pytest
import torch
from torch import Tensor

from lightning_fw import (
    ConstantStep,
    FrankWolfeMixin,
    Harmonic,
    InnerLoop,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    OpenLoop,
    ShortStep,
)
from lightning_fw.balls import Ball

from .reference.elman import SHAPES, Weights, initial_weights, sequences
from .reference.lightning_net import Net, fit
from .reference.torch_elman import Elman

DATA = sequences(seed=1)
START = initial_weights(seed=0)
BATCH_SIZE = 6
EPOCHS = 2
TOLERANCE = 1e-12
RADIUS = 0.125
"""A power of two, so that dividing by it and multiplying again loses nothing."""

BALLS = [L1Ball, L2Ball, LinfBall, lambda **options: LpBall(3.0, **options)]
every_ball = pytest.mark.parametrize("ball", BALLS, ids=["l1", "l2", "linf", "l3"])
MakeBall = Callable[..., Ball]


def flat(weights: Weights) -> Tensor:
    """All weights as one vector."""
    return torch.cat([torch.from_numpy(weights[name]).flatten() for name in SHAPES])


def trained(inner: InnerLoop, lr: float = RADIUS, loss_scale: float = 1.0) -> Tensor:
    """The weights after a Trainer's fit with outer SGD."""
    net = Net(START, inner, torch.optim.SGD, (lr, lr), loss_scale)
    fit(net, DATA, batch_size=BATCH_SIZE, epochs=EPOCHS)
    return flat(net.weights())


def slope(point: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The gradient of the loss at `point`, both as one vector."""
    model = Elman(START)
    torch.nn.utils.vector_to_parameters(point, model.parameters())
    model.mean_squared_error(batch).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def training_batches() -> list[tuple[Tensor, Tensor]]:
    """The batches of all epochs, in order."""
    x, y = (torch.from_numpy(part).split(BATCH_SIZE) for part in DATA)
    return list(zip(x, y, strict=True)) * EPOCHS


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    """Equal up to rounding, and not where the training began."""
    assert (ours - theirs).norm() < TOLERANCE * theirs.norm()
    assert (ours - flat(START)).norm() > 0.01


@pytest.mark.parametrize("batches", ["successive", "same", "split"])
def test_one_l2_step_is_normalized_gradient_descent(batches: str) -> None:
    w = flat(START)
    for batch in training_batches():
        g = slope(w, batch)
        w = w - 0.2 * g / g.norm()
    inner = InnerLoop(ball=L2Ball(radius=RADIUS, scope="global"), steps=1, batches=batches)
    assert_close(trained(inner, lr=0.2), w)


@pytest.mark.parametrize("scope", ["tensor", "group", "global"])
def test_one_linf_step_is_sign_descent(scope: str) -> None:
    w = flat(START)
    for batch in training_batches():
        w = w - 0.02 * slope(w, batch).sign()
    assert_close(trained(InnerLoop(ball=LinfBall(scope=scope), steps=1), lr=0.02), w)


@every_ball
def test_one_step_knows_no_step_size_rule_and_no_trajectory(ball: MakeBall) -> None:
    plain = trained(InnerLoop(ball=ball(radius=RADIUS), steps=1))
    for options in (
        {"step_size": OpenLoop()},
        {"step_size": ConstantStep(1.0)},
        {"trajectory": "cumulative"},
        {"batches": "same"},
        {"batches": "split"},
    ):
        assert_close(trained(InnerLoop(ball=ball(radius=RADIUS), steps=1, **options)), plain)


@pytest.mark.parametrize("steps", [2, 4])
def test_sgd_at_the_radius_is_plain_frank_wolfe_in_the_moved_ball(steps: int) -> None:
    """ω + d_k written without d: w ← (1 − γ) w + γ (ω + s), and the next anchor is the last w."""
    w = flat(START)
    for batch in training_batches():
        anchor = w
        for k in range(1, steps + 1):
            g = slope(w, batch)
            gamma = 2 / (k + 1)
            w = (1 - gamma) * w + gamma * (anchor - RADIUS * g / g.norm())
    ball = L2Ball(radius=RADIUS, scope="global")
    inner = InnerLoop(ball=ball, steps=steps, step_size=OpenLoop(), batches="same")
    assert_close(trained(inner), w)


def test_a_constant_step_of_one_forgets_all_but_the_last_atom() -> None:
    w = flat(START)
    for batch in training_batches():
        atom = torch.zeros_like(w)
        for _ in range(4):
            g = slope(w + atom, batch)
            atom = -RADIUS * g / g.norm()
        w = w + atom
    ball = L2Ball(radius=RADIUS, scope="global")
    inner = InnerLoop(ball=ball, steps=4, step_size=ConstantStep(1.0), batches="same")
    assert_close(trained(inner), w)


@every_ball
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_factor_on_the_loss_changes_nothing(ball: MakeBall, momentum: float) -> None:
    inner = InnerLoop(ball=ball(radius=RADIUS), steps=3, step_size=OpenLoop(), momentum=momentum)
    plain = trained(inner)
    for exponent in (-20, 20):
        assert_close(trained(inner, loss_scale=2.0**exponent), plain)


@every_ball
def test_momentum_zero_is_no_momentum(ball: MakeBall) -> None:
    without = trained(InnerLoop(ball=ball(radius=RADIUS), steps=3))
    assert torch.equal(trained(InnerLoop(ball=ball(radius=RADIUS), steps=3, momentum=0.0)), without)
    little = trained(InnerLoop(ball=ball(radius=RADIUS), steps=3, momentum=1e-16))
    assert_close(little, without)


@every_ball
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_displacement_with_rate_one_is_unit_with_the_radius_as_rate(
    ball: MakeBall, momentum: float
) -> None:
    def inner(direction: str) -> InnerLoop:
        return InnerLoop(ball=ball(radius=RADIUS), steps=3, momentum=momentum, direction=direction)

    assert_close(trained(inner("displacement"), lr=1.0), trained(inner("unit"), lr=RADIUS))


@pytest.mark.parametrize("steps", [1, 2])
def test_two_steps_are_too_few_to_tell_the_trajectories_apart(steps: int) -> None:
    anchored = trained(InnerLoop(ball=L2Ball(radius=RADIUS), steps=steps))
    cumulative = InnerLoop(ball=L2Ball(radius=RADIUS), steps=steps, trajectory="cumulative")
    assert_close(trained(cumulative), anchored)


class Slope(FrankWolfeMixin, L.LightningModule):
    """The loss ⟨c, w⟩ with c > 0, whose gradient is the same everywhere."""

    def __init__(self, inner: InnerLoop) -> None:
        super().__init__()
        self.inner = inner
        generator = torch.Generator().manual_seed(3)
        self.c = torch.rand(37, generator=generator, dtype=torch.float64) + 0.1
        self.w = torch.nn.Parameter(torch.zeros_like(self.c))

    def configure_frank_wolfe(self) -> InnerLoop:
        return self.inner

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.c @ self.w

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=RADIUS)


def way_down(inner: InnerLoop) -> Tensor:
    """Where a `Slope` is after one epoch of seven windows, from 0."""
    module = Slope(inner)
    fit(module, DATA, batch_size=BATCH_SIZE, epochs=1)
    return module.w.detach()


@every_ball
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_on_a_straight_slope_every_step_size_goes_to_the_atom(
    ball: MakeBall, momentum: float
) -> None:
    """All atoms agree, so K is of no account, also once the gap is nothing but rounding."""
    one = way_down(InnerLoop(ball=ball(radius=RADIUS), steps=1, momentum=momentum))
    inner = InnerLoop(ball=ball(radius=RADIUS), steps=20, momentum=momentum, batches="same")
    c = Slope(inner).c
    assert float(c @ one) == pytest.approx(
        -7 * RADIUS * float(inner.ball.dual_norm([c])), rel=1e-12
    )
    atom = one / 7
    halfway = ShortStep(2 * float(-c @ atom / atom.dot(atom)))
    for step_size in (Harmonic(), OpenLoop(), ConstantStep(1.0), ShortStep(1e-3), halfway):
        many = way_down(replace(inner, step_size=step_size))
        torch.testing.assert_close(many, one, rtol=1e-12, atol=1e-12, msg=repr(step_size))
