"""Schedules of the radius, and SlopeRatio against its formula written out."""

from __future__ import annotations

import math

import pytest
import torch

from lightning_fw import CosineDecay, LinearDecay, PowerDecay, SlopeRatio

CPU = torch.device("cpu")


@pytest.mark.parametrize("schedule", [CosineDecay(total_steps=8), LinearDecay(total_steps=8)])
def test_decays_go_from_one_to_their_end_and_stay(schedule):
    factors = [schedule(t) for t in range(12)]
    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[8:] == pytest.approx([schedule.end] * 4)


def test_cosine_decay_is_half_a_cosine():
    factors = [CosineDecay(total_steps=3, end=0.5)(t) for t in range(4)]
    assert factors == pytest.approx([1.0, 0.875, 0.625, 0.5])


def test_power_decay():
    assert [PowerDecay(power=1.0, timescale=2.0)(t) for t in (0, 2, 6)] == [1.0, 0.5, 0.25]
    assert [PowerDecay()(t) for t in (0, 3, 8)] == pytest.approx([1.0, 1 / 2, 1 / 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineDecay(total_steps=0), "`total_steps` must be at least 1, got 0"),
        (lambda: LinearDecay(total_steps=-1), "`total_steps` must be at least 1, got -1"),
        (lambda: LinearDecay(total_steps=5, end=0.0), r"`end` must be in \(0, 1\], got 0.0"),
        (lambda: CosineDecay(total_steps=5, end=2.0), r"`end` must be in \(0, 1\], got 2.0"),
        (lambda: PowerDecay(power=0.0), r"`power` must be in \(0, 1\], got 0.0"),
        (lambda: PowerDecay(timescale=0.0), "`timescale` must be positive, got 0.0"),
        (lambda: SlopeRatio(target=1.0), r"`target` must be in \(-1, 1\), got 1.0"),
        (lambda: SlopeRatio(target=-1.0), r"`target` must be in \(-1, 1\), got -1.0"),
        (lambda: SlopeRatio(rate=0.0), "`rate` must be positive, got 0.0"),
        (lambda: SlopeRatio(early_rate=-0.1), "`early_rate` must be finite and >= 0, got -0.1"),
        (lambda: SlopeRatio(early_rate=math.inf), "`early_rate` must be finite and >= 0, got inf"),
        (lambda: SlopeRatio(decay=1.0), r"`decay` must be in \[0, 1\), got 1.0"),
        (lambda: SlopeRatio(own_share=-0.1), r"`own_share` must be in \[0, 1\], got -0.1"),
        (lambda: SlopeRatio(own_share=1.5), r"`own_share` must be in \[0, 1\], got 1.5"),
        (
            lambda: SlopeRatio(own_share=float("nan")),
            r"`own_share` must be in \[0, 1\], got nan. Pass 0 <= own_share <= 1.",
        ),
        (lambda: SlopeRatio(minimum=0.0), "`minimum` must be positive, got 0.0"),
        (lambda: SlopeRatio(maximum=math.inf), "`maximum` must be at least `minimum` .* got inf"),
        (lambda: SlopeRatio(minimum=1.0, maximum=0.5), "`maximum` must be at least `minimum` = 1"),
    ],
)
def test_a_wrong_setting_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_ends_of_ranges_that_belong_to_them():
    assert LinearDecay(total_steps=2, end=1.0)(2) == CosineDecay(total_steps=2, end=1.0)(1) == 1.0
    fixed = SlopeRatio(minimum=0.02, maximum=0.02, decay=0.0, own_share=0.0)
    state = fixed.update(fixed.initial_state(0.02, CPU), torch.tensor(-1.0), torch.tensor(-1.0))
    assert state["radius"].item() == pytest.approx(0.02)


def test_slope_ratio_follows_its_formula():
    rule = SlopeRatio(target=0.6, rate=0.05, decay=0.95, minimum=1e-3, maximum=0.1)
    assert rule == SlopeRatio(maximum=0.1)
    assert_follows_formula(rule, early=0.0)


def test_slope_ratio_moves_faster_early_on():
    rule = SlopeRatio(target=0.6, rate=0.05, early_rate=0.3, decay=0.95, minimum=1e-3, maximum=0.1)
    assert_follows_formula(rule, early=0.3)


def assert_follows_formula(rule, early):
    slopes = [(-1.0, -0.9), (-2.0, 0.5), (-0.5, -0.1), (3.0, 1.0), (-1.0, -1.0)] * 12
    state = rule.initial_state(0.02, CPU)
    radius, a_mean, b_mean = 0.02, 0.0, 0.0
    for t, (a, b) in enumerate(slopes, start=1):
        a_mean, b_mean = 0.95 * a_mean + 0.05 * a, 0.95 * b_mean + 0.05 * b
        ratio = -b_mean / abs(a_mean)
        change = min(max(2 * (0.6 * a_mean - b_mean) / abs(a_mean), -1.0), 1.0)
        radius = min(max(radius * math.exp(max(0.05, early / math.sqrt(t)) * change), 1e-3), 0.1)
        state = rule.update(state, torch.tensor(a), torch.tensor(b))
        assert state["radius"].item() == pytest.approx(radius, rel=1e-4)
        assert rule.ratio(state).item() == pytest.approx(ratio, rel=1e-4)


def test_slopes_that_are_noise_move_the_radius_as_far_up_as_down():
    rule = SlopeRatio(target=-0.5, decay=0.9, minimum=1e-9, maximum=1e9)
    noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    ends = []
    for sign in (1.0, -1.0):
        state = rule.initial_state(0.02, CPU)
        for a, b in sign * noise:
            state = rule.update(state, a, b)
        ends.append(math.log(state["radius"].item() / 0.02))
    assert ends[0] == pytest.approx(-ends[1], abs=1e-3)


def test_without_any_slope_the_radius_stays():
    rule = SlopeRatio()
    state = rule.update(rule.initial_state(0.02, CPU), torch.tensor(0.0), torch.tensor(0.0))
    assert state["radius"].item() == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("slopes", "limit"), [((-1.0, -1.0), 1.0), ((-1.0, 0.5), 1e-3), ((1.0, 1.0), 1e-3)]
)
def test_the_radius_grows_on_a_line_shrinks_past_the_bottom_and_stays_in_bounds(slopes, limit):
    rule = SlopeRatio()
    state = rule.initial_state(0.02, CPU)
    for _ in range(200):
        state = rule.update(state, *map(torch.tensor, slopes))
    assert state["radius"].item() == pytest.approx(limit)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_window_without_both_slopes_changes_nothing(bad):
    rule = SlopeRatio()
    state = rule.update(rule.initial_state(0.02, CPU), torch.tensor(-1.0), torch.tensor(-0.5))
    for a, b in ((-1.0, bad), (bad, -1.0)):
        assert rule.update(state, torch.tensor(a), torch.tensor(b)) == state


def test_the_first_radius_is_clipped():
    rule = SlopeRatio(minimum=0.01, maximum=0.1)
    radii = [rule.initial_state(radius, CPU)["radius"].item() for radius in (1e-4, 0.02, 5.0)]
    assert radii == pytest.approx([0.01, 0.02, 0.1])


def test_radii_are_float32_whatever_torchs_default():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        state = SlopeRatio().initial_state(0.02, CPU)
    finally:
        torch.set_default_dtype(before)
    assert {value.dtype for value in state.values()} == {torch.float32}


TENSORS = [(-1.0, -0.9), (-20.0, 8.0), (-0.1, -0.05)]


def updated(rule, slopes=TENSORS, windows=5):
    state = rule.initial_state(0.02, CPU, len(slopes))
    a, b = torch.tensor(slopes).unbind(dim=1)
    for _ in range(windows):
        state = rule.update(state, a, b)
    return state


@pytest.mark.parametrize("own_share", [0.0, 0.25, 1.0])
def test_each_tensor_follows_its_own_slopes_by_its_share(own_share):
    rule = SlopeRatio(own_share=own_share)
    state = updated(rule)

    def change(a, b):
        return min(max(2 * (b / a - 0.6), -1.0), 1.0)

    common = change(sum(a for a, _ in TENSORS), sum(b for _, b in TENSORS))
    for (a, b), radius in zip(TENSORS, state["radius"].tolist(), strict=True):
        log = 5 * 0.05 * (own_share * change(a, b) + (1 - own_share) * common)
        assert radius == pytest.approx(0.02 * math.exp(log), rel=1e-6)


def test_without_a_share_all_radii_are_that_of_the_sums():
    radii = updated(SlopeRatio())["radius"]
    alone = updated(SlopeRatio(), [tuple(map(sum, zip(*TENSORS, strict=True)))])["radius"]
    assert radii[0] == radii[1] == radii[2] == pytest.approx(alone.item(), rel=1e-6)
    assert radii[0] < 0.02, "the steepest tensor, past its bottom, rules"


def test_a_tensor_without_a_slope_yet_follows_the_sums():
    own = updated(SlopeRatio(own_share=1.0), [(-1.0, -1.0), (0.0, 0.0)])["radius"]
    assert own[0] == own[1] > 0.02


@pytest.mark.parametrize("later", [(-1.0, 0.0), (0.0, 1.0)])
def test_a_slope_at_one_end_is_a_tensors_own_once_it_has_had_one_at_an_anchor(later):
    """Past its bottom, while all others are on a line."""
    rule = SlopeRatio(own_share=1.0)
    others = [(-20.0, -20.0)] * 2
    for first, falls in ((-1.0, True), (0.0, later[0] != 0)):
        before = updated(rule, [*others, (first, -first)], windows=2)
        a, b = torch.tensor([*others, later]).unbind(dim=1)
        ratios = rule.update(before, a, b)["radius"] / before["radius"]
        assert ratios[0] > 1
        assert (ratios[2] < 1) == falls


def test_a_tensor_that_is_frozen_follows_the_sums():
    rule = SlopeRatio(own_share=1.0)
    before = updated(rule, [(-1.0, -1.0), (-1.0, 1.0)])
    after = rule.update(before, torch.tensor([-1.0, 0.0]), torch.tensor([-1.0, 0.0]))
    ratios = after["radius"] / before["radius"]
    sums = {name: before[name].sum(0, keepdim=True) for name in ("anchor_slope", "end_slope")}
    alone = {**before, **sums, "radius": before["radius"][:1]}
    expected = SlopeRatio().update(alone, torch.tensor([-1.0]), torch.tensor([-1.0]))["radius"]
    torch.testing.assert_close(ratios[1], expected[0] / before["radius"][0])
    assert ratios[0] > 1


def test_one_slope_that_is_not_finite_leaves_all_radii():
    rule = SlopeRatio(own_share=0.5)
    before = updated(rule)
    after = rule.update(before, torch.tensor([-1.0, float("nan"), -1.0]), torch.full((3,), -1.0))
    for name, value in before.items():
        assert torch.equal(after[name], value)
