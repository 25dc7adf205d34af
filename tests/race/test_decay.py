"""Learning rates that fall over the budget."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lightning_fw.race import contest
from lightning_fw.race.command import main
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point
from lightning_fw.race.run import Course, run
from lightning_fw.race.tasks import TASKS
from lightning_fw.race.tuning import read_trials, tune

from .test_run import SHORT, entrant

SETTING = {"adam-clip-cosine": {"lr": 0.02}, "muon-cosine": {"lr": 0.03, "adam_lr": 0.02}}


class Rates(Callback):
    """Writes down with what learning rates steps were made."""

    def __init__(self):
        self.used = {}

    def on_train_start(self, trainer, pl_module):
        optimizer = pl_module.optimizers(use_pl_optimizer=False)
        moving = {"lr": getattr(optimizer, "_muon", optimizer)}
        if hasattr(optimizer, "_adam"):
            moving["adam_lr"] = optimizer._adam
        for name, each in moving.items():
            each.register_step_post_hook(lambda stepped, *_, name=name: self._note(name, stepped))

    def _note(self, name, stepped):
        self.used.setdefault(name, []).extend(group["lr"] for group in stepped.param_groups)


def rates_of(name, tmp_path, *, horizon, budget):
    if name.startswith("muon") and not hasattr(torch.optim, "Muon"):
        pytest.skip("Muon came with torch 2.9")
    course = Course(
        task=SHORT, cell="gru", network={"hidden_size": 4}, every=4, root=tmp_path, horizon=horizon
    )
    rates = Rates()
    who = entrant(name, **SETTING[name])
    run(who, course, 0, budget=budget, report=lambda _: None, callbacks=[rates])
    return rates.used


@pytest.mark.parametrize("name", SETTING)
@pytest.mark.parametrize("budget", [12, 8])
def test_they_fall_along_half_a_cosine_over_the_horizon(name, budget, tmp_path):
    found = rates_of(name, tmp_path, horizon=12, budget=budget)
    fall = [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(budget)]
    for key, first in SETTING[name].items():
        assert found[key] == pytest.approx([first * share for share in fall])


@pytest.mark.parametrize("name", SETTING)
def test_without_a_horizon_they_stay(name, tmp_path):
    found = rates_of(name, tmp_path, horizon=None, budget=4)
    assert found == {key: [rate] * 4 for key, rate in SETTING[name].items()}


def test_a_trial_or_warm_up_that_ends_sooner_falls_as_slowly(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    runs = []

    def noted(who, course, seed, *, budget, stop_at_target=None, **settings):
        runs.append((course.horizon, budget, stop_at_target))
        run(who, course, seed, budget=budget, stop_at_target=stop_at_target, **settings)

    monkeypatch.setattr(contest, "run", noted)
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], target=0.0))
    arguments = ["--task", "digits", "--methods", "adam-clip-cosine", "--budget", "6"]
    arguments += ["--every", "2", "--hidden-size", "4", "--seeds", "1", "--tune", "2"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    horizons, budgets, stops = (set(each) for each in zip(*runs, strict=True))
    assert horizons == {6} and budgets > {6}
    # A trial does not end at the target, which here is met at once.
    assert stops == {None}
    assert [trial.evaluations for trial in read_trials(tmp_path / "trials.csv")] == [6, 6]


def test_of_trials_the_one_that_ends_best_on_the_mean_wins(tmp_path):
    method, target, budget = METHODS["adam-clip-cosine"], TASKS["adding"].target, 100
    ends = iter([target / 2, target / 2, target / 8, 2 * target, 2 * target, 2 * target])
    caps = []

    def run_trial(who, seed, cap):
        caps.append(cap)
        return Point(who.name, seed, cap, 1.0, 0.1, next(ends))

    settings = {"number": 3, "budget": budget, "cache": tmp_path / "trials.csv"}
    chosen = tune([method], TASKS["adding"], run_trial=run_trial, tell=lambda _: None, **settings)[
        method.name
    ]
    assert caps == [budget] * 6
    assert (chosen.number, chosen.reached, chosen.evaluations) == (0, 2, budget)
