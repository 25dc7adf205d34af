"""A ball is a value: frozen, comparable, hashable, picklable."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from lightning_fw.balls import Ball, L2Ball, LinfBall, LpBall, ProductBall, RMSBall
from lightning_fw.parameters import ParameterInfo

from .cases import BALLS, label

every_ball = pytest.mark.parametrize("ball", BALLS, ids=label)


@every_ball
def test_a_ball_is_frozen(ball: Ball) -> None:
    with pytest.raises(FrozenInstanceError):
        ball.radius = 1.0  # type: ignore[misc]


@every_ball
def test_equal_settings_make_equal_balls(ball: Ball) -> None:
    for twin in (replace(ball), copy.deepcopy(ball), pickle.loads(pickle.dumps(ball))):
        assert twin == ball
        assert hash(twin) == hash(ball)
        assert type(twin) is type(ball)
    wider = replace(ball, radius=2 * ball.radius)
    assert wider != ball
    assert len({ball, wider, replace(ball)}) == 2


@every_ball
def test_a_copy_answers_alike(ball: Ball) -> None:
    torch.manual_seed(0)
    gradients = [torch.randn(4, 3), torch.randn(5)]
    infos = [ParameterInfo("0.weight"), ParameterInfo("1.bias")]
    twin = pickle.loads(pickle.dumps(ball))
    for mine, other in zip(ball.lmo(gradients, infos), twin.lmo(gradients, infos), strict=True):
        assert torch.equal(mine, other)


def test_kinds_of_balls_differ() -> None:
    assert len({L2Ball(), RMSBall(), LinfBall(), LpBall(2.0), LpBall(3.0)}) == 5
    assert RMSBall() != L2Ball()


def test_the_order_of_patterns_is_part_of_a_product() -> None:
    biases, rest = LinfBall(), L2Ball()
    one = ProductBall({"*bias*": biases, "*": rest})
    other = ProductBall({"*": rest, "*bias*": biases})
    assert one != other
    assert one == ProductBall({"*bias*": biases, "*": rest})
    assert one != L2Ball()


def test_a_product_does_not_follow_the_dict_it_was_made_of() -> None:
    balls: dict[str, Ball] = {"*": L2Ball()}
    ball = ProductBall(balls)
    before = hash(ball)
    balls["*"] = LinfBall()
    assert ball == ProductBall({"*": L2Ball()})
    assert hash(ball) == before


def test_repr_shows_the_settings() -> None:
    assert repr(L2Ball(radius=0.1)) == "L2Ball(radius=0.1, scope='tensor')"
    assert repr(LpBall(3.0)) == "LpBall(radius=0.01, scope='tensor', p=3.0)"
