"""Who is ahead, from points made by hand."""

from __future__ import annotations

from lightning_fw.race.methods import choose_method
from lightning_fw.race.points import Point
from lightning_fw.race.summary import Line, summarize
from lightning_fw.race.tasks import TASKS

ADDING = TASKS["adding"]
METHODS = [choose_method(name, "adding", "lstm") for name in ("spectral", "adam-clip", "adam")]


def run(method, seed, metrics):
    return [
        Point(method, seed, 25 * i, 2.0 * i, 0.1, metric) for i, metric in enumerate(metrics, 1)
    ]


def test_medians_are_over_the_runs_that_arrived():
    points = [
        *run("spectral", 0, [0.2, 0.02, 0.03]),
        *run("spectral", 1, [0.2, 0.2, 0.01]),
        *run("spectral", 2, [0.2, 0.2, 0.2]),
        *run("adam-clip", 0, [0.17, 0.16, 0.15]),
    ]
    assert summarize(points, METHODS, ADDING) == [
        Line("spectral", 3, 2, 62.5, 5.0, 0.03, 0.2),
        Line("adam-clip", 1, 0, None, None, 0.15, 0.15),
    ]


def test_the_worst_accuracy_is_the_smallest():
    points = [*run("spectral", 0, [0.5, 0.96]), *run("spectral", 1, [0.5, 0.97])]
    (line,) = summarize(points, METHODS[:1], TASKS["digits"])
    assert (line.reached, line.evaluations, line.worst_metric) == (2, 50, 0.96)


def test_baselines_say_what_was_tuned_and_frank_wolfe_that_nothing_was():
    assert METHODS[0].label == "Frank-Wolfe, spectral (not tuned)"
    assert METHODS[1].label.startswith("Adam + clipping (tuned: lr ")
    assert choose_method("adam", "adding", "rnn", lr=0.5).label == "Adam (tuned: lr 0.5)"
