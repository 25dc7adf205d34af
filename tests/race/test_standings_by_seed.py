"""Which seeds and methods a comparison is made of."""

from __future__ import annotations

from lightning_fw.race.points import Point
from lightning_fw.race.standings import Race, compare, main
from lightning_fw.race.tasks import TASKS

from .test_standings import write_race

BUDGET = 400


def race_of(**arrivals):
    """A race whose methods arrive at each seed after so many evaluations."""
    points = [
        Point(method, seed, at, at / 10, 0.1, 0.01 if at >= arrives else 0.2)
        for method, seeds in arrivals.items()
        for seed, arrives in seeds.items()
        for at in range(10, BUDGET + 1, 10)
    ]
    return Race("a race", TASKS["adding"], points, "spectral")


def test_both_medians_are_of_the_seeds_that_both_ran():
    ours = {0: 300, 1: 320, **dict.fromkeys(range(2, 12), 50)}
    race = race_of(spectral=ours, adam={0: 400, 1: 400})
    (found,) = compare([race], "back-propagation", "evaluations")
    assert (found.ours.spent, found.ours.arrived) == (310, "2 of 2")
    assert (found.best.spent, found.best.arrived) == (400, "2 of 2")
    assert found.ratio == 310 / 400
    assert found.for_machines()["interval"] == (300 / 400, 320 / 400)


def test_the_best_of_others_is_chosen_by_the_seeds_that_ours_ran():
    race = race_of(spectral={0: 50}, adam={0: 200, 1: 10, 2: 10}, sgd={0: 100, 1: 300, 2: 300})
    (found,) = compare([race], "back-propagation", "evaluations")
    assert (found.best.method, found.ratio) == ("sgd", 0.5)


def test_others_that_ran_no_seed_of_ours_are_not_compared():
    race = race_of(spectral={0: 50}, adam={1: 10})
    assert compare([race], "back-propagation", "evaluations") == []


def test_a_run_that_does_not_arrive_comes_last_though_it_was_fast():
    runs = [(9.0, 0.01), (10.0, 0.01), (5.0, 0.2)]
    points = [Point("adam", seed, 100, s, 0.1, mse) for seed, (s, mse) in enumerate(runs)]
    race = Race("a race", TASKS["adding"], points, "adam")
    assert race.spent("adam", "seconds") == (10.0, True)


def test_a_method_that_raced_alone_is_told(tmp_path, capsys):
    assert main([str(write_race(tmp_path / "race", "adding", {"spectral": [20, 10]}))]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "lightning-fw standings: spectral raced alone\n")
