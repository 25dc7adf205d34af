"""Tuning: the same rule for every method, and trials that are not made twice."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from itertools import islice

import pytest

from lightning_fw.race.command import main
from lightning_fw.race.entrants import Entrant
from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point, read_points
from lightning_fw.race.run import Course, run
from lightning_fw.race.search_space import Range, read, trials, written
from lightning_fw.race.tasks import TASKS
from lightning_fw.race.tuning import SEEDS, Trial, best, read_trials, tune

ADDING = TASKS["adding"]
ADAM = METHODS["adam"]


def trial(evaluations, metric):
    return Trial("adam", 0, {"lr": 0.1}, 2, evaluations, metric)


def test_the_fewest_evaluations_win_and_the_metric_decides_between_equals():
    slow, good, bad = trial(50.0, 0.0), trial(25.0, 0.3), trial(25.0, 0.4)
    assert best([slow, bad, good], ADDING) == good
    assert best([slow, good, bad], TASKS["digits"]) == bad


def tuned(tmp_path, needed, *, number=4, budget=100, told=None):
    """Tune Adam where trial i arrives after needed[i][seed] evaluations; None: never."""
    runs = []
    settings = [written(setting) for setting in islice(trials("adam", ADAM.space), number)]

    def run_trial(entrant, seed, cap):
        index = settings.index(written(entrant.setting))
        arrives = needed[index][SEEDS.index(seed)]
        runs.append((index, seed, cap))
        if arrives is None or arrives > cap:
            return Point("adam", seed, cap, 1.0, 0.1, 0.1 + 0.01 * index)
        return Point("adam", seed, arrives, 1.0, 0.1, 0.01)

    chosen = tune(
        [ADAM, METHODS["spectral"]],
        ADDING,
        number=number,
        budget=budget,
        cache=tmp_path / "trials.csv",
        run_trial=run_trial,
        tell=(told if told is not None else []).append,
    )
    assert set(chosen) == {"adam"}
    return chosen["adam"], runs


def test_the_best_mean_over_both_seeds_is_chosen(tmp_path):
    told = []
    needed = [(60, 60), (50, None), (40, 50), (45, 50)]
    chosen, runs = tuned(tmp_path, needed, told=told)
    assert (chosen.number, chosen.evaluations, chosen.reached) == (2, 45, 2)
    # What can no longer win is not trained on.
    assert runs[2:4] == [(1, 100, 100), (1, 101, 70)]
    assert runs[-2:] == [(3, 100, 90), (3, 101, 45)]
    assert [t.words for t in told] == [
        "2 of 2, 60 evaluations",
        "given up",
        "2 of 2, 45 evaluations",
        "given up",
    ]


def test_a_trial_that_does_not_arrive_is_not_run_again_and_counts_twice_the_budget(tmp_path):
    chosen, runs = tuned(tmp_path, [(None, 10), (None, None), (20, None)], number=3)
    assert runs == [(0, 100, 100), (1, 100, 100), (2, 100, 100), (2, 101, 100)]
    assert (chosen.number, chosen.evaluations) == (2, 110)
    assert chosen.metric == pytest.approx((0.01 + 0.12) / 2)


def test_a_second_run_makes_only_the_trials_that_are_missing(tmp_path):
    needed = [(60, 60), (50, 70), (40, 50), (45, 50)]
    first, runs = tuned(tmp_path, needed, number=2)
    assert first.evaluations == 60
    with (tmp_path / "trials.csv").open("a") as file:
        file.write("adam,2,lr=0.0")  # cut off
    again, more = tuned(tmp_path, needed)
    (tmp_path / "other").mkdir()
    whole, _ = tuned(tmp_path / "other", needed)
    assert [index for index, _, _ in runs] == [0, 0, 1, 1]
    assert {index for index, _, _ in more} == {2, 3}
    assert again == whole
    fewer, _ = tuned(tmp_path, needed, number=2)
    assert fewer == first


def test_methods_keep_their_trials_apart_in_a_second_run(tmp_path):
    made = []

    def run_trial(entrant, seed, cap):
        made.append(entrant.name)
        return Point(entrant.name, seed, 40 if entrant.name == "adam" else 50, 1.0, 0.1, 0.01)

    def tune_both():
        return tune(
            [ADAM, METHODS["sgd"]],
            ADDING,
            number=2,
            budget=100,
            cache=tmp_path / "trials.csv",
            run_trial=run_trial,
            tell=lambda trial: None,
        )

    first, second = tune_both(), tune_both()
    assert {name: trial.evaluations for name, trial in first.items()} == {"adam": 40, "sgd": 50}
    assert second == first
    assert made == [*4 * ["adam"], *4 * ["sgd"]]


def test_a_trial_cut_off_leaves_no_trace_in_the_file(tmp_path):
    needed = [(60, 60), (40, 40), (50, 50)]
    first, _ = tuned(tmp_path, needed, number=3)
    lines = (tmp_path / "trials.csv").read_bytes().splitlines(keepends=True)
    (tmp_path / "trials.csv").write_bytes(b"".join(lines[:2]) + lines[2][:2])
    for _ in range(2):
        again, _ = tuned(tmp_path, needed, number=3)
        assert again == first
    assert (tmp_path / "trials.csv").read_bytes() == b"".join(lines)


def test_trials_are_the_same_ones_and_differ_from_method_to_method():
    space = {"lr": Range(1e-4, 1e-1), "steps": Range(1, 10, whole=True)}
    first = list(islice(trials("adam", space), 8))
    assert first == list(islice(trials("adam", space), 8))
    assert first != list(islice(trials("lion", space), 8))
    assert all(1e-4 <= s["lr"] <= 1e-1 and s["steps"] in range(1, 11) for s in first)
    # Half of them in each half of a range.
    assert sum(s["lr"] < 10**-2.5 for s in first) == 4


def test_a_linear_range_is_even_in_the_value_and_another_in_its_logarithm():
    assert [Range(0.5, 0.9, linear=True).at(share) for share in (0, 0.5, 1)] == [0.5, 0.7, 0.9]
    assert [Range(1.0, 10.0).at(share) for share in (0, 0.5, 1)] == [1.0, 3.16, 10.0]


def test_a_setting_survives_its_writing():
    setting = {"lr": 0.00316, "steps": 7.0}
    assert read(written(setting)) == setting
    assert read("") == {}


@pytest.mark.parametrize("words", ["lr", "lr=", "=1", "lr=x", "lr=-1", "lr=0", "lr=inf", "lr=nan"])
def test_words_that_are_no_setting_are_named(words):
    with pytest.raises(ValueError, match=f"must be NAME=VALUE with a value > 0, got '{words}'"):
        read(words)


def test_it_tunes_then_races_with_what_it_chose(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    arguments = ["--task", "digits", "--cell", "rnn", "--methods", "adam", "sgd", "spectral"]
    arguments += ["--budget", "20", "--every", "10", "--seeds", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--tune", "2"]) == 0
    told = capsys.readouterr().out
    assert "adam, trial 2 of 2: lr=" in told and "sgd, trial 1 of 2: lr=" in told
    lines = (tmp_path / "tuned.csv").read_text().splitlines()
    assert lines[0] == "task,cell,method,ranks,setting,trials,reached,evaluations"
    assert [line.split(",")[:4] for line in lines[1:]] == [
        ["digits", "rnn", "adam", "1"],
        ["digits", "rnn", "sgd", "1"],
    ]
    chosen = lines[1].split(",")[4]
    assert f"| Adam (tuned: {chosen}) |" in (tmp_path / "summary.md").read_text()
    assert {p.method for p in read_points(tmp_path / "race.csv")} == {"adam", "sgd", "spectral"}
    cached = (tmp_path / "trials.csv").read_text()
    assert main([*arguments, "--tune", "2"]) == 0
    assert "trial" not in capsys.readouterr().out
    assert (tmp_path / "trials.csv").read_text() == cached
    assert main([*arguments, "--tune", "3"]) == 2
    assert "a race with another tune: 2, not 3" in capsys.readouterr().err


def test_a_trial_ends_at_the_target_on_the_validation_split(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    easy = replace(TASKS["digits"], target=0.0)
    monkeypatch.setitem(TASKS, "digits", easy)
    arguments = ["--task", "digits", "--methods", "adam", "--budget", "6", "--every", "2"]
    arguments += ["--hidden-size", "4", "--seeds", "0", "--tune", "1", "--out", str(tmp_path)]
    assert main(arguments) == 0
    (trial,) = read_trials(tmp_path / "trials.csv")
    assert (trial.reached, trial.evaluations) == (2, 2)
    course = Course(task=easy, cell="lstm", network={"hidden_size": 4}, every=2, root=tmp_path)
    points = []
    for seed in SEEDS:
        who = Entrant(ADAM, trial.setting)
        run(who, course, seed, budget=2, report=points.append, judge="val")
    assert trial.metric == statistics.mean(point.test_metric for point in points)


def test_methods_may_be_tuned_one_after_the_other(tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    arguments = ["--task", "digits", "--budget", "4", "--every", "4", "--seeds", "1"]
    for name in ("adam", "rmsprop"):
        assert main([*arguments, "--methods", name, "--tune", "1", "--out", str(tmp_path)]) == 0
    summary = (tmp_path / "summary.md").read_text()
    assert "| Adam (tuned: lr=" in summary and "| RMSprop (tuned: lr=" in summary


def test_an_interruption_while_tuning_keeps_what_was_raced(tmp_path, capsys, monkeypatch):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    arguments = ["--task", "digits", "--budget", "4", "--every", "4", "--seeds", "1"]
    arguments += ["--tune", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--methods", "adam"]) == 0
    before = (tmp_path / "summary.md").read_text()

    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_fw.race.contest.tune", interrupted)
    assert main([*arguments, "--methods", "rmsprop"]) == 130
    assert "Run the same command again to go on" in " ".join(capsys.readouterr().out.split())
    assert (tmp_path / "summary.md").read_text() == before


def test_without_seeds_it_only_tunes(tmp_path, capsys):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    arguments = ["--task", "digits", "--methods", "adam", "--budget", "5", "--every", "5"]
    assert main([*arguments, "--tune", "1", "--seeds", "0", "--out", str(tmp_path)]) == 0
    assert "No run is finished" in capsys.readouterr().out
    assert (tmp_path / "tuned.csv").exists()


def test_for_ranks_it_tunes_on_their_joined_batches(tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    arguments = ["--task", "digits", "--cell", "rnn", "--methods", "adam", "--budget", "8"]
    arguments += ["--every", "8", "--seeds", "0", "--tune", "1"]
    ranks = ["--strategy", "ddp", "--devices", "4"]
    assert main([*arguments, "--out", str(tmp_path / "alone")]) == 0
    assert main([*arguments, *ranks, "--out", str(tmp_path / "joined")]) == 0
    alone, joined = (
        (tmp_path / name / "trials.csv").read_text().splitlines()[1].split(",")
        for name in ("alone", "joined")
    )
    assert alone[2] == joined[2]
    assert not math.isclose(float(alone[-1]), float(joined[-1]))
    assert (tmp_path / "joined" / "tuned.csv").read_text().splitlines()[1].split(",")[3] == "4"
