"""The reference's atoms are feasible and attain the dual norm, which no feasible point beats."""

from __future__ import annotations

import numpy as np
import pytest

from .blocks import atom, blocks
from .oracles import Oracle, l1, l2, linf, lp

BALLS: dict[str, tuple[Oracle, float]] = {
    "l1": (l1, 1.0),
    "l2": (l2, 2.0),
    "linf": (linf, np.inf),
    "l3": (lp(3.0), 3.0),
    "l1.5": (lp(1.5), 1.5),
}


def norm(v: np.ndarray, p: float) -> float:
    return float(np.linalg.norm(v, ord=p))


@pytest.mark.parametrize("ball", BALLS)
def test_atoms_are_feasible_and_attain_the_dual_norm(ball: str) -> None:
    oracle, p = BALLS[ball]
    q = {1.0: np.inf, np.inf: 1.0}.get(p) or p / (p - 1.0)
    rng = np.random.default_rng(0)
    for n in (1, 2, 17):
        g = rng.standard_normal(n)
        assert norm(oracle(g), p) == pytest.approx(1.0, rel=1e-12)
        assert g @ oracle(g) == pytest.approx(-norm(g, q), rel=1e-12)


@pytest.mark.parametrize("ball", BALLS)
def test_a_zero_gradient_gives_the_atom_zero(ball: str) -> None:
    assert not np.any(BALLS[ball][0](np.zeros(4)))


def test_l1_takes_the_first_of_equals() -> None:
    np.testing.assert_array_equal(l1(np.array([1.0, -2.0, 2.0])), [0.0, 1.0, 0.0])


def test_a_ball_over_several_parameters_is_the_ball_over_their_concatenation() -> None:
    g = {"a": np.array([[3.0]]), "b": np.array([0.0, 4.0]), "c": np.array([-2.0])}
    groups = [["a", "b"], ["c"]]
    expected = {
        "tensor": ([-10.0], [0.0, -10.0], [10.0]),
        "group": ([-6.0], [0.0, -8.0], [10.0]),
        "global": ([-30 / 29**0.5], [0.0, -40 / 29**0.5], [20 / 29**0.5]),
    }
    for scope, values in expected.items():
        parts = atom(g, blocks(groups, scope), l2, 10.0)
        for name, value in zip("abc", values, strict=True):
            np.testing.assert_allclose(parts[name].ravel(), value, rtol=1e-14, err_msg=scope)
        assert parts["a"].shape == (1, 1)
