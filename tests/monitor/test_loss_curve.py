"""Two runs are compared by the same measure."""

from __future__ import annotations

from math import exp, inf, isnan, log, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fw.monitoring.loss_curve import HORIZON, LossCurve, compare


def curve(loss, *, evaluations, every=1, seconds=0.01):
    """The loss as a function of evaluations, measured so often."""
    points = LossCurve()
    for spent in range(0, evaluations, every):
        points.add(spent, spent * seconds, loss(spent))
    return points


def falling(pace):
    return lambda spent: 1 + exp(-spent / pace)


losses = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


@given(losses)
def test_the_average_is_the_weighted_mean_of_what_came_before(values):
    spent = [float(index**1.5) for index in range(len(values))]
    smoothed = LossCurve(spent, spent, list(values)).smoothed()
    at, value = torch.tensor([spent, values], dtype=torch.float64)
    weights = torch.exp(-(at[:, None] - at) / HORIZON).tril()
    expected = (weights * value).sum(1) / weights.sum(1)
    found = torch.tensor(smoothed.losses, dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_average_forgets_at_the_same_pace_whatever_the_spacing():
    def step(spent):
        return 1.0 if spent < 500 else 0.0

    dense = curve(step, evaluations=600).smoothed()
    sparse = curve(step, evaluations=600, every=5).smoothed()
    assert dense.losses[599] == pytest.approx(exp(-100 / HORIZON))
    assert sparse.losses[-1] == pytest.approx(exp(-100 / HORIZON))


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_loss_that_is_not_finite_is_left_out(value):
    points = LossCurve()
    points.add(0, 0.0, value)
    points.add(1, 0.1, 2.0)
    assert points == LossCurve([1], [0.1], [2.0])


def test_thinning_keeps_the_spacing_also_after_a_hole():
    spent = [*range(10), *range(50, 60)]
    kept = LossCurve(spent, spent, [1.0] * 20).thinned(3).evaluations
    assert kept == [0, 3, 6, 9, 50, 53, 56, 59]


def test_the_spacing_is_the_same_wherever_a_run_begins():
    late = LossCurve([100, 102, 104, 108], [0.0, 1.0, 2.0, 3.0], [1.0] * 4)
    assert late.spacing() == 8 / 3
    assert LossCurve([100], [0.0], [1.0]).spacing() == 0


def test_a_run_needs_as_much_as_itself():
    run = curve(falling(30), evaluations=200)
    for row in compare(run, run):
        assert row.evaluations == row.baseline_evaluations
        assert row.seconds == row.baseline_seconds


def test_fewer_measurements_of_the_same_losses_make_no_difference():
    noise = torch.randn(400, generator=torch.Generator().manual_seed(0)).tolist()

    def noisy(spent):
        return falling(60)(spent) + 0.2 * noise[spent]

    dense = curve(noisy, evaluations=400)
    sparse = curve(noisy, evaluations=400, every=5)
    for ours, theirs in ((sparse, dense), (dense, sparse)):
        for row in compare(ours, theirs):
            assert row.evaluations == row.baseline_evaluations


def test_a_run_twice_as_fast_needs_about_half():
    rows = compare(
        curve(falling(100), evaluations=1500, seconds=0.04),
        curve(falling(200), evaluations=1500, seconds=0.01),
    )
    for row in rows[1:-1]:
        assert row.evaluations / row.baseline_evaluations == pytest.approx(0.5, abs=0.1)
        assert row.seconds / row.baseline_seconds == pytest.approx(2.0, abs=0.4)


def test_losses_go_from_high_to_low_and_end_at_the_best():
    baseline = curve(falling(50), evaluations=300)
    reached = [row.loss for row in compare(baseline, baseline)]
    assert reached == sorted(reached, reverse=True)
    assert len(reached) == 5
    assert reached[-1] == min(baseline.smoothed().losses)


def test_a_loss_never_reached_is_nan():
    worse = curve(lambda spent: 1 + falling(50)(spent), evaluations=300)
    last = compare(worse, curve(falling(50), evaluations=300))[-1]
    assert isnan(last.evaluations)
    assert isnan(last.seconds)
    assert last.baseline_evaluations > 0


def test_losses_below_zero_are_spaced_evenly():
    baseline = curve(lambda spent: -float(spent), evaluations=100)
    levels = [row.loss for row in compare(baseline, baseline)]
    spaces = torch.tensor(levels).diff()
    torch.testing.assert_close(spaces, spaces[:1].expand(4), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("loss", "scale"), [(falling(50), log), (lambda spent: 100.0 - 3 * spent, float)]
)
def test_the_first_of_five_is_a_fifth_of_the_way_from_where_the_baseline_began(loss, scale):
    baseline = curve(loss, evaluations=100)
    reached = [scale(row.loss) for row in compare(baseline, baseline)]
    began, best = scale(loss(0)), scale(min(baseline.smoothed().losses))
    assert reached == pytest.approx([began + n / 5 * (best - began) for n in range(1, 6)])


def test_a_baseline_that_learned_nothing_has_one_loss():
    flat = curve(lambda spent: 1.0, evaluations=10)
    assert [row.loss for row in compare(flat, flat)] == [1.0]


def test_without_losses_there_is_nothing_to_compare():
    run = curve(falling(30), evaluations=10)
    assert compare(run, LossCurve()) == compare(LossCurve(), run) == []
