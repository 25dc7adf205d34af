"""Who is ahead, from points made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from lightning_fw.race import plot
from lightning_fw.race.entrants import enter
from lightning_fw.race.points import Point
from lightning_fw.race.settings import RaceSettings
from lightning_fw.race.summary import Line, by_point, summarize
from lightning_fw.race.tables import bar_of, live_table, markdown, summary_table
from lightning_fw.race.tasks import TASKS

ADDING = TASKS["adding"]
METHODS = [enter(name, "adding", "lstm") for name in ("spectral", "adam-clip", "adam")]
SETTINGS = RaceSettings(
    task="adding",
    cell="lstm",
    methods=("spectral",),
    seeds=1,
    first_seed=0,
    budget=75,
    every=25,
    out=Path("out"),
    data=Path("data"),
)


def run(method, seed, metrics):
    return [
        Point(method, seed, 25 * i, 2.0 * i, 0.1, metric) for i, metric in enumerate(metrics, 1)
    ]


def test_a_run_that_does_not_arrive_counts_as_later_than_all_that_do():
    points = [
        *run("spectral", 0, [0.2, 0.02, 0.03]),
        *run("spectral", 1, [0.2, 0.2, 0.01]),
        *run("spectral", 2, [0.2, 0.2, 0.2]),
        *run("adam-clip", 0, [0.17, 0.16, 0.15]),
        *run("adam", 0, [0.01, 0.01, math.inf]),
        *run("adam", 1, [0.17, 0.17, math.inf]),
        *run("adam", 2, [0.17, 0.17, 0.16]),
    ]
    assert summarize(points, METHODS, ADDING) == [
        Line("spectral", 3, 2, 75, 6.0, 0.03, 0.2),
        Line("adam-clip", 1, 0, None, None, 0.15, 0.15),
        Line("adam", 3, 1, None, None, math.inf, math.inf),
    ]


@pytest.mark.parametrize(("spent", "told"), [(132.5, "132.5"), (70.0, "70"), (2e6, "2000000")])
def test_a_median_between_two_points_is_told_as_it_is(spent, told):
    assert Line("spectral", 2, 2, spent, 6.0, 0.03, 0.2).cells()[1] == told


def test_the_worst_accuracy_is_the_smallest():
    points = [*run("spectral", 0, [0.5, 0.96]), *run("spectral", 1, [0.5, 0.97])]
    (line,) = summarize(points, METHODS[:1], TASKS["digits"])
    assert (line.reached, line.evaluations, line.worst_metric) == (2, 50, 0.96)


def test_the_target_is_reached_at_its_value():
    assert ADDING.reached(0.02) and not ADDING.reached(0.021)
    assert TASKS["digits"].reached(0.95) and not TASKS["digits"].reached(0.949)
    assert not ADDING.reached(math.inf)


def test_a_curve_goes_through_the_median_of_what_its_runs_spent():
    spent = (1.0, 9.0, 2.0)
    runs = [[Point("adam", seed, 25, each, 0.1, each / 10)] for seed, each in enumerate(spent)]
    assert by_point(runs, "seconds") == ([2.0], [[0.1, 0.9, 0.2]])
    assert by_point(runs, "evaluations")[0] == [25]


def test_markdown_has_a_row_for_each_line():
    lines = [Line("spectral", 3, 2, 75, 6.04, 0.03, 0.2)]
    text = markdown(lines, METHODS, ADDING, SETTINGS)
    assert text.splitlines()[0] == (
        "adding problem, T = 100, LSTM of 128 units: gradient evaluations (batches of 50) and "
        "seconds of training to test MSE ≤ 0.02, measured every 25 of 75 evaluations. Medians over "
        "the seeds; – where the median run does not arrive."
    )
    assert text.splitlines()[-2] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert text.splitlines()[-1] == (
        "| Frank-Wolfe, spectral (not tuned) | 2 of 3 | 75 | 6.0 | 0.0300 | 0.2000 |"
    )


def test_of_several_ranks_all_reduces_are_told_beside_the_evaluations():
    methods = [enter(name, "adding", "lstm") for name in ("local", "adam-accumulated", "adam")]
    lines = [Line(method.name, 3, 3, 50, 6.04, 0.01, 0.02) for method in methods]
    ranks = replace(SETTINGS, devices=2)
    text = markdown(lines, methods, ADDING, ranks)
    assert "LSTM of 128 units, 2 ranks: gradient evaluations of each rank" in text
    assert "| method | reached | evaluations | all-reduces | seconds | final | worst |" in text
    found = [row.split(" | ")[1:5] for row in text.splitlines()[-3:]]
    assert found == [["3 of 3", "50", messages, "6.0"] for messages in ("25", "16", "50")]
    tables = summary_table(lines, methods, ADDING, ranks), live_table([], methods, ADDING, ranks)
    assert [table.title for table in tables] == [
        "adding problem, T = 100, 2 ranks: to test MSE ≤ 0.02",
        "adding problem, T = 100, LSTM of 128 units, 2 ranks",
    ]


def test_a_terminals_summary_has_a_row_for_each_line():
    table = summary_table([Line("spectral", 3, 2, 75, 6.04, 0.03, 0.2)], METHODS, ADDING, SETTINGS)
    assert [(column.header, *column.cells) for column in table.columns] == [
        ("method", "Frank-Wolfe, spectral"),
        ("reached", "2 of 3"),
        ("evaluations", "75"),
        ("seconds", "6.0"),
        ("final", "0.0300"),
        ("worst", "0.2000"),
    ]


def test_a_race_in_progress_shows_where_each_methods_latest_run_stands():
    points = [*run("adam", 0, [0.3, 0.2]), *run("spectral", 0, [0.5]), *run("spectral", 1, [0.4])]
    table = live_table(points, METHODS, ADDING, SETTINGS)
    headings = ["method", "seed", "evaluations", "seconds", "train loss", "test MSE"]
    assert [column.header for column in table.columns] == headings
    assert list(zip(*(column.cells for column in table.columns), strict=True)) == [
        ("Frank-Wolfe, spectral", "1", "25 of 75", "2.0", "0.1000", "0.4000"),
        ("Adam + clipping", *5 * "–"),
        ("Adam", "0", "50 of 75", "4.0", "0.1000", "0.2000"),
    ]


def test_a_bar_tells_how_many_of_all_points_are_there():
    bar, console = bar_of(3), Console(file=StringIO(), width=80)
    bar.advance(bar.task_ids[0], 2)
    console.print(bar.get_renderable())
    assert "2/3 points," in console.file.getvalue()


def test_a_picture_copes_with_a_run_that_diverged(tmp_path):
    plot = pytest.importorskip("lightning_fw.race.plot")
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    points = [
        *run("spectral", 0, [0.2, 0.02, 0.03]),
        *run("adam", 0, [0.2, math.inf, math.inf]),
        *run("adam", 1, [0.2, 0.3, math.inf]),
    ]
    plot.draw(points, METHODS, ADDING, SETTINGS, tmp_path / "race.png")
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_of_one_point_is_seen(tmp_path):
    figure = pytest.importorskip("matplotlib.figure", reason="needs the extra `plot`").Figure()
    panel = figure.subplots()
    plot._draw_runs(panel, [run("adam", 0, [0.2])], "evaluations", METHODS[2], 0, band=False)
    figure.savefig(tmp_path / "with.png")
    panel.lines[0].set_visible(False)
    figure.savefig(tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_no_two_methods_look_alike():
    # One line of a family for the first eight, another from then on.
    styles = [style for family in plot._LINES.values() for style in family]
    assert len(set(styles)) == len(styles) == 6 and len(set(plot._COLORS)) == 8
