"""Ratios from points made by hand."""

from __future__ import annotations

import json

import pytest

from lightning_fw.race.methods import METHODS
from lightning_fw.race.points import Point, write_points
from lightning_fw.race.standings import Race, compare, main, read_race, table
from lightning_fw.race.tasks import TASKS


def write_race(directory, task, arrivals, budget=100):
    """A race where runs of a method arrive after so many evaluations, or never (None)."""
    good, bad = (0.01, 0.2) if task == "adding" else (0.99, 0.5)
    directory.mkdir()
    points = []
    for method, seeds in arrivals.items():
        for seed, arrives in enumerate(seeds):
            points += [
                Point(method, seed, at, at / 10, 0.1, good if arrives and at >= arrives else bad)
                for at in range(10, budget + 1, 10)
            ]
    write_points(directory / "race.csv", points)
    (directory / "race.json").write_text(
        json.dumps(
            {
                "task": task,
                "cell": "lstm",
                "budget": budget,
                "methods": {name: dict(METHODS[name].usual) for name in arrivals},
            }
        )
    )
    return directory


def lines_of(directory, unit):
    comparisons = compare([read_race(directory)], "back-propagation", unit)
    return list(table(comparisons, "back-propagation", unit))


@pytest.fixture
def races(tmp_path):
    first = {
        "spectral": [20, 10, 30],
        "adam": [40, 40, 80],
        "sgd": [50, 40, None],
        "muon": [40] * 3,
    }
    second = {"spectral": [40, 40, 40], "adam": [None, None, 90], "l2": [80, 80, 80]}
    return [
        write_race(tmp_path / "first", "adding", first),
        write_race(tmp_path / "second", "digits", second),
    ]


def test_the_best_other_is_the_one_that_needs_least(races):
    lines = lines_of(races[0], "evaluations")
    assert lines[2] == (
        "| adding problem, T = 100, LSTM | 20 (3 of 3) | Adam: 40 (3 of 3) | 0.50 (0.25–0.50) "
        "| 0.0100 / 0.0100 |"
    )


def test_who_does_not_arrive_counts_with_the_budget(races):
    lines = lines_of(races[1], "seconds")
    assert "| 4.0 (3 of 3) | Adam: 10.0 (1 of 3) | ≤ 0.40 (≤ 0.44) |" in lines[2]


@pytest.mark.parametrize(
    ("arrivals", "told"),
    [
        ([40, None], "Adam: 70 (1 of 2) | ≤ 0.29 (≤ 0.50)"),
        ([40, None, 40], "Adam: 40 (2 of 3) | 0.50 (0.20–0.50)"),
        ([40, None, 100], "Adam: 100 (2 of 3) | 0.20 (0.20–0.50)"),
    ],
)
def test_a_ratio_is_a_bound_where_the_other_runs_up_to_the_median_do_not_all_arrive(
    arrivals, told, tmp_path
):
    race = write_race(tmp_path / "race", "adding", {"spectral": [20, 20, 20], "adam": arrivals})
    assert f"| {told} |" in lines_of(race, "evaluations")[2]


@pytest.mark.parametrize(
    ("unusual", "title"),
    [
        ({"network": {}, "batch_size": None, "devices": 1, "accelerator": "cpu"}, "LSTM"),
        ({"network": {"hidden_size": 32}, "devices": 2}, "LSTM, 32 units, 2 ranks"),
        ({"batch_size": 16, "accelerator": "gpu"}, "LSTM, batches of 16, on a GPU"),
    ],
)
def test_races_are_told_apart_by_what_is_not_as_usual(races, unusual, title):
    path = races[0] / "race.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | unusual))
    assert lines_of(races[0], "evaluations")[2].startswith(f"| adding problem, T = 100, {title} |")


@pytest.mark.parametrize(("task", "best"), [("adding", "sgd"), ("digits", "adam")])
def test_among_others_that_do_not_arrive_the_best_is_better_at_the_end(task, best):
    ends = {"adam": 0.3, "sgd": 0.2, "spectral": 0.1}
    points = [Point(method, 0, 10, 1.0, 0.1, metric) for method, metric in ends.items()]
    race = Race("a race", TASKS[task], points, "spectral")
    assert race.best("back-propagation", "evaluations") == best


@pytest.mark.parametrize(("unit", "best"), [("evaluations", "rmsprop"), ("seconds", "adam")])
def test_who_arrives_is_better_than_who_is_done_sooner(unit, best):
    """At 20 evaluations and 8 s, 30 and 6 s, 40 and 4 s, and never, in 2 s."""
    ends = {"rmsprop": (20, 8.0), "sgd": (30, 6.0), "adam": (40, 4.0), "adamw": (10, 2.0)}
    points = [
        Point(method, 0, *spent, 0.1, 0.2 if method == "adamw" else 0.01)
        for method, spent in ends.items()
    ]
    race = Race("a race", TASKS["adding"], points, "spectral")
    assert race.best("back-propagation", unit) == best


def test_among_equals_the_best_is_the_first_by_name():
    equals = ("sgd", "rmsprop", "lookahead", "adamw", "adam", "normalized-sgd")
    points = [Point(method, 0, 10, 1.0, 0.1, 0.01) for method in equals]
    race = Race("a race", TASKS["adding"], points, "spectral")
    assert race.best("back-propagation", "evaluations") == "adam"


def test_ours_that_does_not_arrive_has_no_ratio(tmp_path):
    lost = write_race(tmp_path / "lost", "adding", {"spectral": [None], "adam": [10]})
    lines = lines_of(lost, "evaluations")
    assert "| 100 (0 of 1) | Adam: 10 (1 of 1) | inf | 0.2000 / 0.0100 |" in lines[2]


def test_machines_are_told_an_infinite_ratio_from_none(tmp_path):
    lost = write_race(tmp_path / "lost", "adding", {"spectral": [None], "adam": [10]})
    neither = write_race(tmp_path / "neither", "adding", {"spectral": [None], "adam": [None]})
    told = []
    for race in (lost, neither):
        assert main([str(race), "--json", str(tmp_path / "told.json")]) == 0
        told.append(json.loads((tmp_path / "told.json").read_text())["standings"][0]["mean_ratio"])
    assert told == ["inf", None]


def test_a_run_in_progress_does_not_count(races):
    with (races[0] / "race.csv").open("a") as file:
        file.write("adam,7,10,1.0,0.1,0.2\n")
    race = read_race(races[0])
    assert race.arrived("adam") == "3 of 3"


def test_a_method_without_a_finished_run_did_not_race(races):
    path = races[0] / "race.csv"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(row for row in rows if not row.startswith("spectral,")))
    with pytest.raises(ValueError, match="a race with spectral, got adam, sgd, muon in"):
        read_race(races[0])


def test_another_method_can_be_compared_with_the_others(races, capsys):
    assert main([str(races[1]), "--method", "l2"]) == 0
    first = capsys.readouterr().out.split("\n\n")[0]
    assert "| evaluations to the target | Frank-Wolfe, l2 at its best | best of back-pro" in first
    assert "| 80 (3 of 3) | Adam: 100 (1 of 3) | ≤ 0.80 (≤ 0.89) |" in first


def test_where_neither_arrives_there_is_no_ratio(tmp_path, races, capsys):
    lost = write_race(tmp_path / "lost", "adding", {"spectral": [None], "adam": [None]})
    assert main([str(races[0]), str(lost)]) == 0
    first = capsys.readouterr().out.split("\n\n")[0]
    assert "| 100 (0 of 1) | Adam: 100 (0 of 1) | – |" in first
    assert "| geometric mean | | | 0.50 (0.25–0.50) | |" in first


def test_without_any_ratio_there_is_no_mean(tmp_path, capsys):
    lost = write_race(tmp_path / "lost", "adding", {"spectral": [None], "adam": [None]})
    assert main([str(lost), "--json"]) == 0
    told = capsys.readouterr()
    assert "geometric mean" not in told.err
    keys = ("mean_ratio", "is_bound", "interval")
    means = [[each[key] for key in keys] for each in json.loads(told.out)["standings"]]
    assert means == 2 * [[None, False, None]]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("paper", "must hold a race with paper, got spectral, adam, l2 in {race}. Run the race"),
        ("sgdd", "--method: must be one of"),
    ],
)
def test_a_method_that_did_not_race_is_named(method, message, races, capsys):
    try:
        status = main([str(races[1]), "--method", method])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message.format(race=races[1]) in capsys.readouterr().err


def test_the_mean_of_ratios_is_geometric(races, capsys):
    assert main([str(path) for path in races]) == 0
    tables = capsys.readouterr().out.split("\n\n")
    # Of 20 / 40 and ≤ 40 / 100.
    assert "| geometric mean | | | ≤ 0.45 (≤ 0.47) | |" in tables[0]
    assert "best of one LMO a step" in tables[2] and "Muon per gate, AdamW: 40" in tables[2]
    assert "Frank-Wolfe, l2 at its best: 80" in tables[4]


def test_a_race_that_is_named_twice_counts_once(races, capsys):
    main([str(race) for race in races])
    once = capsys.readouterr().out
    again = races[0].parent / "second" / ".." / "first"
    main([str(race) for race in (*races, races[0], again)])
    assert capsys.readouterr().out == once


def change_settings(directory, **settings):
    path = directory / "race.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_a_race_is_read_with_the_size_of_its_batches(races):
    usual = read_race(races[0]).task.batch_size
    change_settings(races[0], batch_size=usual + 7)
    assert read_race(races[0]).task.batch_size == usual + 7


def test_runs_of_a_method_without_a_setting_are_named(races):
    change_settings(races[0], methods={"spectral": {}})
    with pytest.raises(ValueError, match="finished runs of adam, muon, sgd, spectral"):
        read_race(races[0])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "`directory` must hold a race, got"),
        ({"race.json": '{"task": "sorting", "cell": "lstm"}'}, "`directory` must hold a race, got"),
        ({"race.json": '{"task": "adding", "cell": "lstm"}'}, "`directory` must hold a race, got"),
        (
            {"race.json": '{"task": "adding", "cell": "lstm", "budget": 9, "methods": {}}'},
            "(finished runs of no method)",
        ),
        (
            {"race.json": '{"task": "adding", "budget": 9, "methods": {"sgdd": {}}}'},
            "`directory` must hold a race, got",
        ),
    ],
)
def test_a_directory_without_a_race_is_named(files, message, tmp_path, capsys):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert main([str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_of_several_directories_without_a_race_the_first_is_named(tmp_path, capsys):
    assert main([str(tmp_path / "first"), str(tmp_path / "second")]) == 2
    assert f"must hold a race, got {tmp_path / 'first'} (" in capsys.readouterr().err


def test_a_race_that_was_broken_off_does_not_hide_the_others(races, tmp_path, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "race.lock").touch()
    assert main([str(races[0]), str(broken), str(tmp_path)]) == 1
    told = capsys.readouterr()
    assert "| geometric mean | | | 0.50 (0.25–0.50) | |" in told.out
    assert f"standings: left out: `directory` must hold a race, got {broken}" in told.err


def test_programs_get_the_ratios(races, capsys):
    assert main([*(str(path) for path in races), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert "| geometric mean | | | ≤ 0.45 (≤ 0.47) | |" in told.err
    first = found["standings"][0]
    assert (found["method"], first["family"]) == ("spectral", "back-propagation")
    assert first["unit"] == "evaluations" and first["is_bound"]
    assert first["mean_ratio"] == pytest.approx((0.5 * 0.4) ** 0.5)
    assert first["interval"] == pytest.approx([0.1**0.5, (0.5 * 40 / 90) ** 0.5], rel=0.01)
    assert first["races"][1] == {
        "race": "digits by row, LSTM",
        "ours": {"method": "spectral", "spent": 40, "arrived": "3 of 3", "final": 0.99},
        "best": {"method": "adam", "spent": 100, "arrived": "1 of 3", "final": 0.5},
        "ratio": 0.4,
        "is_bound": True,
        "interval": [0.4, pytest.approx(40 / 90)],
    }


def test_a_family_that_did_not_race_has_no_table(tmp_path, capsys):
    alone = write_race(tmp_path / "alone", "adding", {"spectral": [20], "l2": [40]})
    assert main([str(alone)]) == 0
    told = capsys.readouterr().out
    assert told.count("best of") == told.count("best of Frank-Wolfe") == 2
