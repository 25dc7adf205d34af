"""γ_k: values, range, errors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fw import ConstantStep, Harmonic, OpenLoop, ShortStep

RULES = [Harmonic(), OpenLoop(), ConstantStep(0.3), ShortStep(10.0)]


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(
    k=st.integers(1, 10_000),
    gap=st.floats(0, 1e30),
    squared_distance=st.floats(0, 1e30),
)
def test_every_step_size_is_in_the_unit_interval(rule, k, gap, squared_distance):
    assert 0 <= rule(k, gap, squared_distance) <= 1


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_tensors_give_what_floats_give(rule):
    expected = rule(3, 0.5, 0.25)
    found = rule(torch.tensor(3.0), torch.tensor(0.5), torch.tensor(0.25))
    assert float(found) == pytest.approx(expected)


def test_harmonic_weights_make_the_mean():
    mean = 0.0
    for k in range(1, 6):
        gamma = Harmonic()(k, None, None)
        mean = (1 - gamma) * mean + gamma * k
    assert mean == pytest.approx(3.0)


def test_open_loop_starts_at_the_first_atom():
    assert [OpenLoop()(k, None, None) for k in (1, 2, 3)] == [1.0, 2 / 3, 0.5]


def test_a_short_step_where_the_atom_is_reached_stays():
    assert ShortStep(1.0)(1, 0.0, 0.0) == 0.0


@pytest.mark.parametrize("gap", [-1e-9, -1.0])
def test_a_short_step_does_not_go_backwards(gap):
    """A gap may fall below 0 by rounding."""
    assert ShortStep(1.0)(2, gap, 0.5) == 0.0
    assert ShortStep(1.0)(2, torch.tensor(gap), torch.tensor(0.5)) == 0.0


def test_a_constant_step_may_keep_the_newest_atom_alone():
    assert ConstantStep(1.0)(7, None, None) == 1.0


def test_a_constant_step_weighs_the_newest_atom_as_all_before_unless_told_otherwise():
    assert ConstantStep()(7, None, None) == 0.5


@pytest.mark.parametrize("gamma", [0.0, -0.1, 1.1, float("nan")])
def test_a_constant_step_outside_its_range_is_named(gamma):
    with pytest.raises(ValueError, match=r"`gamma` must be in \(0, 1\], got"):
        ConstantStep(gamma)


@pytest.mark.parametrize("lipschitz", [0.0, -1.0, float("nan"), float("inf")])
def test_a_wrong_lipschitz_constant_is_named(lipschitz):
    with pytest.raises(ValueError, match="`lipschitz` must be (positive|finite), got"):
        ShortStep(lipschitz)


@pytest.mark.parametrize("given", [(None, None), (0.5, None), (None, 0.5)])
def test_a_short_step_without_a_gap_says_what_it_needs(given):
    with pytest.raises(TypeError, match="`gap` and `squared_distance` must be numbers"):
        ShortStep(1.0)(1, *given)
