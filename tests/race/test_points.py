"""Which points of a race count."""

from __future__ import annotations

from lightning_fw.race.points import Point, finished


def test_a_run_is_finished_at_its_budget():
    points = [Point("adam", 0, at, at / 10, 0.1, 0.2) for at in range(10, 101, 10)]
    assert finished(points, 100) == points
    assert finished(points[:-1], 100) == []
    # A batch of several evaluations passes over points; those of a method count alike.
    fewer = [Point("paper", 0, 102, 1.0, 0.1, 0.2)]
    assert finished([*points, *fewer], 100) == [*points, *fewer]


def test_points_told_twice_or_out_of_order_are_the_same_runs():
    points = [Point("adam", seed, at, at / 10, 0.1, 1 / at) for seed in (0, 1) for at in (9, 10)]
    assert finished([*points, points[-1]], 10) == points
    assert finished([points[1], points[0], *points[2:]], 10) == points
