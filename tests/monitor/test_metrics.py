"""Statistics are means over the windows that know them, costs are ratios of sums."""

from __future__ import annotations

from math import inf, isnan, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_fw.monitoring.metrics import MEANS, RestartStatistics, moments, summarize

from .cases import record

values = st.floats(-1e6, 1e6) | st.just(nan)
records = st.lists(
    st.builds(
        record,
        steps=st.integers(0, 10),
        skipped=st.integers(0, 10),
        early=st.booleans(),
        radius=values,
        gap_first=values,
        gap_last=values,
        ball_usage=values,
        cosine=values,
        loss_first=values,
        loss_last=values,
        slope_ratio=values,
    ),
    min_size=1,
    max_size=6,
)


@given(records)
def test_a_mean_leaves_nan_out(windows):
    summary = summarize(moments(windows))
    for name, attribute in MEANS.items():
        known = torch.tensor([float(getattr(w, attribute)) for w in windows], dtype=torch.float64)
        if attribute == "slope_ratio":
            known = known.clamp(-1, 1)
        expected = known.nanmean().item()
        assert summary[name] == pytest.approx(expected, rel=1e-9, abs=1e-6, nan_ok=True), name


def test_a_slope_that_is_nearly_0_does_not_make_the_mean_of_slope_ratios():
    windows = [record(slope_ratio=ratio) for ratio in (0.25, -154.0, 1e9, inf, nan)]
    assert summarize(moments(windows))["fw/slope_ratio"] == pytest.approx((0.25 - 1 + 1 + 1) / 4)


@given(records)
def test_counts_are_totals(windows):
    summary = summarize(moments(windows))
    assert summary["fw/restarts"] == len(windows)
    assert summary["fw/early_restarts"] == sum(window.early for window in windows)
    assert summary["fw/skipped"] == sum(window.skipped for window in windows)
    assert summary["fw/gradient_evaluations"] == 2 * len(windows)


@given(records, records)
def test_moments_of_two_fits_add_up(first, second):
    torch.testing.assert_close(moments(first) + moments(second), moments(first + second))


@pytest.mark.parametrize("agreement", [0.9, 0.0])
def test_what_back_propagation_costs_is_not_known_where_ranks_run_apart(agreement):
    summary = summarize(moments([record(), record(agreement=agreement)]))
    assert isnan(summary["fw/bptt_seconds_per_batch"])
    assert isnan(summary["fw/cost_ratio"])
    assert summary["fw/seconds_per_batch"] == pytest.approx(0.9 / 2)


def test_cost_is_that_of_the_sums():
    cheap = record(batches=1, gradient_evaluations=1.0, gradient_seconds=1.0, outer_seconds=0.5)
    dear = record(batches=3, gradient_evaluations=3.0, gradient_seconds=7.0, outer_seconds=1.5)
    summary = summarize(moments([cheap, dear]))
    assert summary["fw/seconds_per_batch"] == pytest.approx((1 + 7 + 0.4 + 2) / 4)
    assert summary["fw/bptt_seconds_per_batch"] == pytest.approx(8 / 4 + 2 / 2)
    assert summary["fw/cost_ratio"] == pytest.approx(10.4 / 4 / 3)


def test_evaluating_each_batch_k_times_costs_k_times():
    same = record(
        batches=1,
        gradient_evaluations=5.0,
        gradient_seconds=5.0,
        oracle_seconds=0.0,
        outer_seconds=0.0,
    )
    assert summarize(moments([same]))["fw/cost_ratio"] == pytest.approx(5.0)


def test_a_window_without_an_outer_step_does_not_cheapen_back_propagation():
    skipped = record(steps=0, skipped=2, outer_seconds=0.0)
    both = summarize(moments([record(), skipped]))
    assert both["fw/bptt_seconds_per_batch"] == pytest.approx(1.2 / 4 + 0.1)


def test_an_infinite_loss_is_not_hidden():
    assert summarize(moments([record(), record(loss_first=inf)]))["fw/loss_drop"] == inf


def test_no_windows_know_nothing():
    summary = summarize(moments([]))
    assert summary.pop("fw/restarts") == 0
    totals = {"fw/early_restarts", "fw/skipped", "fw/gradient_evaluations"}
    assert {name for name, value in summary.items() if not isnan(value)} == totals


def test_one_rank_asks_nobody_of_a_process_group_that_is_there(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a collective")

    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.all_gather", refuse)
    statistics = RestartStatistics()
    statistics.update([record(0)])
    assert summarize(statistics.compute())["fw/restarts"] == 1


def test_the_metric_gathers_updates_until_it_is_reset():
    statistics = RestartStatistics()
    statistics.update([record(0)])
    statistics.update([record(1, radius=0.3)])
    assert summarize(statistics.compute())["fw/radius"] == pytest.approx(0.2)
    statistics.reset()
    statistics.update([record(2, radius=0.5)])
    assert summarize(statistics.compute())["fw/radius"] == pytest.approx(0.5)
