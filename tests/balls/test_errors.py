"""A ball that cannot be says so when it is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_fw.balls import (
    Ball,
    L1Ball,
    L2Ball,
    LinfBall,
    LpBall,
    NuclearBall,
    ProductBall,
    RMSBall,
    RowBall,
    SpectralBall,
)

MAKERS: dict[str, Callable[..., Ball]] = {
    "L1Ball": L1Ball,
    "L2Ball": L2Ball,
    "LinfBall": LinfBall,
    "RMSBall": RMSBall,
    "LpBall": lambda **kwargs: LpBall(3.0, **kwargs),
    "SpectralBall": SpectralBall,
    "NuclearBall": NuclearBall,
    "RowBall": RowBall,
    "ProductBall": lambda **kwargs: ProductBall({"*": L2Ball()}, **kwargs),
}

every_ball = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)

NOT_POSITIVE = [(-1.0, "-1.0"), (0.0, "0.0"), (0, "0"), (-math.inf, "-inf"), (math.nan, "nan")]
NOT_A_NUMBER: list[tuple[Any, str]] = [
    ("1e-2", "'1e-2'"),
    (True, "True"),
    (None, "None"),
    (torch.tensor(0.1), r"tensor\(0\.1000\)"),
    ([0.1], r"\[0\.1\]"),
]


@every_ball
@pytest.mark.parametrize(("value", "shown"), NOT_POSITIVE)
def test_radius_must_be_positive(make: Callable[..., Ball], value: float, shown: str) -> None:
    message = f"`radius` must be positive, got {shown}. Pass a radius > 0."
    with pytest.raises(ValueError, match=message):
        make(radius=value)


@every_ball
def test_radius_must_be_finite(make: Callable[..., Ball]) -> None:
    with pytest.raises(ValueError, match="`radius` must be finite, got inf. Pass a finite radius"):
        make(radius=math.inf)


@every_ball
@pytest.mark.parametrize(("value", "shown"), NOT_A_NUMBER)
def test_radius_must_be_a_number(make: Callable[..., Ball], value: Any, shown: str) -> None:
    message = f"`radius` must be a number, got {shown}. Pass a Python float."
    with pytest.raises(TypeError, match=message):
        make(radius=value)


@pytest.mark.parametrize("make", [SpectralBall, RowBall, NuclearBall])
@pytest.mark.parametrize(
    "name",
    [
        "gate_radius",
        "input_radius",
        "input_limit",
        "symbol_radius",
        "head_radius",
        "vector_radius",
    ],
)
def test_radii_of_gates_and_vectors(make: Callable[..., Ball], name: str) -> None:
    for value, shown in NOT_POSITIVE:
        message = f"`{name}` must be positive, got {shown}. Pass an? {name} > 0."
        with pytest.raises(ValueError, match=message):
            make(**{name: value})
    with pytest.raises(ValueError, match=f"`{name}` must be finite, got inf"):
        make(**{name: math.inf})
    for value, shown in NOT_A_NUMBER:
        if value is None and name in {
            "input_radius",
            "input_limit",
            "symbol_radius",
            "head_radius",
        }:
            continue  # the radius of the others
        with pytest.raises(TypeError, match=f"`{name}` must be a number, got {shown}"):
            make(**{name: value})


@pytest.mark.parametrize("make", [SpectralBall, RowBall, NuclearBall])
def test_the_power_of_an_inputs_width(make: Callable[..., Ball]) -> None:
    for value in (-0.5, math.inf, math.nan):
        message = f"`input_power` must be finite and >= 0, got {value}. Pass 0 for one radius"
        with pytest.raises(ValueError, match=message):
            make(input_power=value)
    for value, shown in NOT_A_NUMBER:
        with pytest.raises(TypeError, match=f"`input_power` must be a number, got {shown}"):
            make(input_power=value)


@pytest.mark.parametrize("value", [1, 1.0, 0.5, -3.0, math.inf, math.nan])
def test_p_must_be_between_one_and_infinity(value: float) -> None:
    message = f"`p` must be between 1 and infinity, got {value}. .* use L1Ball or LinfBall"
    with pytest.raises(ValueError, match=message):
        LpBall(value)


@pytest.mark.parametrize(("value", "shown"), NOT_A_NUMBER)
def test_p_must_be_a_number(value: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=f"`p` must be a number, got {shown}"):
        LpBall(value)


@pytest.mark.parametrize("name", ["L1Ball", "L2Ball", "LinfBall", "RMSBall", "LpBall"])
@pytest.mark.parametrize("value", ["layer", "Tensor", None, ["group"]])
def test_scope_must_be_one_of_three(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="`scope` must be one of 'tensor', 'group', 'global', got"):
        MAKERS[name](scope=value)


@pytest.mark.parametrize("ball", [SpectralBall, NuclearBall, RowBall])
@pytest.mark.parametrize("name", ["split_gates", "scale_by_shape"])
@pytest.mark.parametrize("value", ["false", None, 1])
def test_what_matrix_balls_do_or_not_is_a_bool(ball: Any, name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"`{name}` must be a bool, got {value!r}"):
        ball(**{name: value})


def test_oracle_must_be_one_of_two() -> None:
    message = "`oracle` must be one of 'newton_schulz', 'svd', got 'qr'. Pass one of these."
    with pytest.raises(ValueError, match=message):
        SpectralBall(oracle="qr")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1])
def test_iterations_must_be_at_least_one(value: int) -> None:
    message = f"`iterations` must be at least 1, got {value}. Pass iterations >= 1."
    with pytest.raises(ValueError, match=message):
        NuclearBall(iterations=value)


@pytest.mark.parametrize("value", [2.0, "3", True, None])
def test_iterations_must_be_an_int(value: Any) -> None:
    with pytest.raises(TypeError, match=f"`iterations` must be an int, got {value!r}"):
        NuclearBall(iterations=value)


@pytest.mark.parametrize("make", [L1Ball, L2Ball, LinfBall, RMSBall, SpectralBall, NuclearBall])
def test_the_radius_is_a_keyword(make: Any) -> None:
    with pytest.raises(TypeError, match="positional argument"):
        make(0.1)


def test_a_product_needs_a_ball() -> None:
    with pytest.raises(ValueError, match="`balls` must name at least one pattern, got none"):
        ProductBall({})


@pytest.mark.parametrize("value", [{"*": 0.1}, {"*": L2Ball}, {0: L2Ball()}, {"*": None}])
def test_a_product_maps_patterns_to_balls(value: Any) -> None:
    message = "`balls` must map patterns to balls, got .* for .* Pass strings with balls"
    with pytest.raises(TypeError, match=message):
        ProductBall(value)


@pytest.mark.parametrize("value", [L2Ball(), [L2Ball()], None])
def test_a_product_needs_a_mapping(value: Any) -> None:
    with pytest.raises(TypeError, match="`balls` must map patterns to balls, got"):
        ProductBall(value)
