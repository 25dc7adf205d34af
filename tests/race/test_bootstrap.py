"""Intervals of ratios, beside scipy's and where all samples can be counted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_fw.race.bootstrap import Run, interval, median, resampled_ratios


def runs(*spent):
    """A run for each seed; None for one that spends 100 and does not arrive."""
    return {
        seed: Run(100.0, arrives=False) if needed is None else Run(needed, arrives=True)
        for seed, needed in enumerate(spent)
    }


def shares(ratios):
    values, counts = ratios.unique(return_counts=True)
    return dict(zip(values.tolist(), (counts / len(ratios)).tolist(), strict=True))


def test_of_two_seeds_all_samples_are_drawn_as_often_as_chance_has_it():
    ratios = resampled_ratios(runs(20, 40), runs(40, 40), "a race")
    assert shares(ratios) == pytest.approx({0.5: 0.25, 0.75: 0.5, 1.0: 0.25}, abs=0.02)
    assert interval(ratios) == (0.5, 1.0)


def test_both_runs_of_a_seed_are_drawn_together():
    assert interval(resampled_ratios(runs(10, 30, 50), runs(20, 60, 100), "a race")) == (0.5, 0.5)


def test_seeds_that_one_of_them_lacks_are_left_out():
    ratios = resampled_ratios(runs(10, 10, 90), runs(20, 20), "a race")
    assert interval(ratios) == (0.5, 0.5)
    assert resampled_ratios(runs(10, 20), {1: Run(40.0, arrives=True)}, "a race") is None


def test_a_sample_whose_median_does_not_arrive_has_no_finite_ratio():
    ratios = resampled_ratios(runs(20, None), runs(40, 40), "a race")
    assert shares(ratios) == pytest.approx({0.5: 0.25, math.inf: 0.75}, abs=0.02)
    assert interval(ratios) == (0.5, math.inf)


def test_others_that_do_not_arrive_count_with_what_they_spent():
    ratios = resampled_ratios(runs(20, 20), runs(40, None), "a race")
    assert set(shares(ratios)) == {0.5, 20 / 70, 0.2}


def test_a_run_that_does_not_arrive_comes_last_though_it_was_fast():
    fast = {0: Run(9.0, arrives=True), 1: Run(10.0, arrives=True), 2: Run(5.0, arrives=False)}
    assert median(fast) == Run(10.0, arrives=True)
    assert set(shares(resampled_ratios(runs(1, 1, 1), fast, "a race"))) == {1 / 9, 0.1, 0.2}


@pytest.mark.parametrize("seeds", [5, 20])
def test_the_interval_is_that_of_scipy(seeds):
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(0)
    ours, theirs = (generator.integers(10, 40, seeds) * 10.0 for _ in range(2))
    reference = stats.bootstrap(
        (ours, theirs),
        lambda x, y, axis: np.median(x, axis) / np.median(y, axis),
        paired=True,
        vectorized=True,
        n_resamples=100_000,
        method="percentile",
        random_state=generator,
    ).confidence_interval
    mine = interval(resampled_ratios(runs(*ours.tolist()), runs(*theirs.tolist()), "a race"))
    assert mine == pytest.approx(tuple(reference), rel=0.02)


def test_races_of_different_names_are_drawn_independently_and_of_one_name_alike():
    ours, theirs = runs(10, 20, 30, 40, 50), runs(50, 50, 50, 50, 50)
    first, again, other = (
        resampled_ratios(ours, theirs, name) for name in ("a race", "a race", "another")
    )
    assert first.equal(again)
    correlation = np.corrcoef(first.numpy(), other.numpy())[0, 1]
    assert abs(correlation) < 0.05


def test_without_samples_there_is_no_interval():
    assert interval(None) is None
