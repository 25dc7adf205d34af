"""Rules that close a window early."""

from __future__ import annotations

import pytest
import torch

from lightning_fw import GapFraction, NoiseFloor
from lightning_fw.restarts import Progress


def progress(k=3, gap=1.0, first_gap=1.0, length=1.0, noise=0.5) -> Progress:
    return Progress(k, gap, first_gap, length, noise)


@pytest.mark.parametrize(("gap", "closes"), [(0.2, False), (0.1, True), (0.0, True)])
def test_gap_fraction(gap, closes):
    assert GapFraction(0.1)(progress(gap=gap)) is closes
    assert bool(GapFraction(0.1)(progress(gap=torch.tensor(gap, dtype=torch.float64)))) is closes


def test_a_gap_is_small_at_a_tenth_of_the_first_unless_told_otherwise():
    assert GapFraction()(progress(gap=0.1)) and not GapFraction()(progress(gap=0.11))


@pytest.mark.parametrize(
    ("k", "length", "closes"), [(1, 0.5, False), (2, 0.5, True), (2, 0.56, False)]
)
def test_noise_floor_needs_two_steps(k, length, closes):
    assert NoiseFloor(1.1)(progress(k=k, length=length)) is closes
    tensors = progress(k=torch.tensor(k), length=torch.tensor(length), noise=torch.tensor(0.5))
    assert bool(NoiseFloor(1.1)(tensors)) is closes


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_wrong_fraction_is_named(fraction):
    with pytest.raises(ValueError, match=r"`fraction` must be in \(0, 1\), got"):
        GapFraction(fraction)


@pytest.mark.parametrize("factor", [0.9, 0.0, float("nan")])
def test_a_wrong_factor_is_named(factor):
    with pytest.raises(ValueError, match="`factor` must be at least 1, got"):
        NoiseFloor(factor)


def test_a_factor_of_one_is_allowed():
    assert NoiseFloor(1.0)(progress(length=0.5))
    assert not NoiseFloor(1.0)(progress(length=0.51))
