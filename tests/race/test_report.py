"""Races on one page: ``lightning-fw report``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from lightning_fw.cli import main
from lightning_fw.race.entrants import shipped
from lightning_fw.race.report import report
from lightning_fw.race.results import read_results

from .test_standings import write_race

pytest.importorskip("plotly", reason="needs the extra `report`")


@pytest.fixture
def runs(tmp_path):
    return [
        write_race(tmp_path / "first", "adding", {"spectral": [20, 10], "adam": [None, 40]}),
        write_race(tmp_path / "<second>", "digits", {"spectral": [30, 30]}),
    ]


@pytest.fixture
def page(runs, tmp_path, capsys):
    path = tmp_path / "report.html"
    assert main(["report", *map(str, runs), "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"Wrote {path}\n"
    return path.read_text()


def test_the_page_has_curves_a_table_and_settings_of_each_race(page):
    assert page.count('class="plotly-graph-div"') == 2
    assert "<td>2 of 2</td><td>15</td><td>1.5</td><td>0.0100</td>" in page
    assert "<td>1 of 2</td><td>–</td>" in page
    assert "<dt>budget</dt><dd>100</dd>" in page


def curves_in(page):
    """Of each race its traces: those with a name in the legend first, as (x, y)."""
    found = []
    for start in re.finditer(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*", page):
        traces, _ = json.JSONDecoder().raw_decode(page, start.end())
        found.append([(t.get("name"), t["x"], t["y"]) for t in traces])
    return found


def axes_in(page):
    """Of each race the titles of its horizontal axes, and of its vertical one with its scale."""
    found = []
    for start in re.finditer(r"Plotly\.newPlot\(\s*\"[^\"]+\",\s*", page):
        decode = json.JSONDecoder().raw_decode
        _, end = decode(page, start.end())
        layout, _ = decode(page, page.index("{", end))
        *across, up = (layout[name] for name in ("xaxis", "xaxis2", "yaxis"))
        titles = [axis["title"]["text"] for axis in (*across, up)]
        found.append((titles, up.get("type")))
    return found


def test_axes_have_the_words_for_them_and_errors_alone_are_drawn_by_their_decades(page):
    across = ["gradient evaluations", "seconds of training"]
    assert axes_in(page) == [([*across, "test MSE"], "log"), ([*across, "test accuracy"], None)]


def test_curves_are_medians_over_the_seeds_and_bands_their_range(page):
    first, second = curves_in(page)
    evaluations, seconds = list(range(10, 101, 10)), [float(n) for n in range(1, 11)]
    medians = [(name, x) for name, x, _ in first if name]
    assert medians == [
        (name, x) for name in ("Frank-Wolfe, spectral", "Adam") for x in (evaluations, seconds)
    ]
    # Seeds arrive after 20 and 10 evaluations.
    assert first[:3] == [
        ("Frank-Wolfe, spectral", evaluations, pytest.approx([0.105, *9 * [0.01]])),
        (None, evaluations, [0.01] * 10),
        (None, evaluations, [0.2, *9 * [0.01]]),
    ]
    assert len(first) == 2 * 2 * 3 and len(second) == 2 * 3


def test_the_page_tells_what_a_race_was_of_and_leaves_out_what_it_had_none_of(runs):
    path = runs[0] / "race.json"
    unusual = {"network": {}, "tune": 0, "strategy": None, "batch_size": 7, "test_size": 1000}
    path.write_text(json.dumps(json.loads(path.read_text()) | unusual))
    page = report([read_results(runs[0])])
    assert dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", page)) == {
        "target": "test MSE ≤ 0.02",
        "seeds": "0, 1",
        "batches of": "7",
        "directory": str(runs[0]),
        "cell": "lstm",
        "budget": "100",
        "test size": "1000",
    }


def test_a_methods_row_is_under_the_words_for_it(page, runs):
    head, ours, adam = (re.findall("<t[hd]>(.*?)</t[hd]>", row) for row in page.split("<tr>")[1:4])
    assert ours[:3] == ["Frank-Wolfe, spectral", "not tuned", "2 of 2"]
    assert dict(zip(head, adam, strict=True)) == {
        "method": "Adam",
        "setting": f"{origins_in(runs[0])['adam']}: lr=0.01",
        "reached": "1 of 2",
        "evaluations": "–",
        "seconds": "–",
        "final": "0.1050",
        "worst": "0.2000",
    }


def test_of_more_than_three_methods_the_first_alone_has_a_band(tmp_path):
    arrivals = {name: [20] for name in ("spectral", "adam", "sgd", "rmsprop")}
    race = write_race(tmp_path / "race", "adding", arrivals)
    (traces,) = curves_in(report([read_results(race)]))
    names = [name for name, _, _ in traces]
    assert (len(names), names.count(None), names[:3].count(None)) == (2 * 4 + 2 * 2, 4, 2)


def test_the_page_needs_no_other_file(page):
    assert page.count("plotly.js v") == 1
    assert 'src="' not in page.split("<body>")[0]
    assert "cdn.plot.ly/plotly" not in page.split("</h1>")[0]


def test_what_users_wrote_is_text_and_no_markup(page):
    assert "<second>" not in page
    assert "&lt;second&gt;" in page


def origins_in(race):
    return {entrant.name: entrant.origin for entrant in read_results(race).entrants}


def test_a_method_with_trials_was_tuned(runs):
    path = runs[0] / "race.json"
    methods = {"spectral": {}, "adam": {"lr": 0.123}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"methods": methods}))
    assert origins_in(runs[0]) == {"spectral": "not tuned", "adam": "not tuned"}
    (runs[0] / "trials.csv").write_text("method,number\nadam,0\n")
    assert origins_in(runs[0]) == {"spectral": "not tuned", "adam": "tuned"}


@pytest.mark.parametrize(
    ("change", "origin"),
    [
        ({}, "tuned"),
        ({"network": {"hidden_size": 4}}, "not tuned"),
        ({"batch_size": 7}, "not tuned"),
        ({"devices": 2}, "not tuned"),
        ({"cell": "gru"}, "not tuned"),
        ({"methods": {"spectral": {}, "adam-clip": {"lr": 0.9, "clip": 0.9}}}, "not tuned"),
    ],
    ids=str,
)
def test_shipped_settings_are_tuned_for_their_own_race_alone(change, origin, runs):
    path = runs[0] / "race.json"
    settings = json.loads(path.read_text())
    line = next(line for line in shipped() if line[:4] == ("adding", "lstm", "adam-clip", 1))
    rows = (runs[0] / "race.csv").read_text().replace("\nadam,", "\nadam-clip,")
    (runs[0] / "race.csv").write_text(rows)
    settings["methods"] = {"spectral": {}, "adam-clip": line.setting}
    path.write_text(json.dumps(settings | change))
    assert origins_in(runs[0]) == {"spectral": "not tuned", "adam-clip": origin}


@pytest.mark.parametrize(
    "change",
    [
        {"methods": ["adam"]},
        {"methods": {"adam": None}},
        {"methods": {"spectral": {}, "adam": {"lr": "fast"}}},
        {"budget": "10"},
        {"task": "sorting"},
        {"cell": 5},
    ],
    ids=str,
)
def test_a_broken_race_is_named(runs, change, tmp_path, capsys):
    path = runs[0] / "race.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "report.html")]) == 2
    assert f"`directory` must hold a race, got {runs[0]} (" in capsys.readouterr().err


def test_a_row_that_is_no_point_is_named_with_its_directory(runs, tmp_path, capsys):
    path = runs[0] / "race.csv"
    path.write_text(path.read_text() + "adam,one,2,0.1,0.2,0.3\n")
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "report.html")]) == 2
    told = capsys.readouterr().err
    assert f"`directory` must hold a race, got {runs[0]} (race.csv with a row that is" in told
    assert "`--out`" not in told


def test_a_directory_without_a_race_is_named(tmp_path, capsys):
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "report.html")]) == 2
    assert "`directory` must hold a race, got" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()


def test_a_race_that_was_broken_off_does_not_hide_the_others(runs, tmp_path, capsys):
    broken, page = tmp_path / "broken", tmp_path / "report.html"
    broken.mkdir()
    assert main(["report", str(broken), str(runs[0]), "--out", str(page)]) == 1
    assert "report: left out: `directory` must hold a race" in capsys.readouterr().err
    assert page.exists()


def test_a_run_that_lost_a_point_does_not_count(runs, tmp_path):
    path, told = runs[1] / "race.csv", tmp_path / "report.json"
    header, _, *others = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *others]))
    page = tmp_path / "report.html"
    assert main(["report", *map(str, runs), "--out", str(page), "--json", str(told)]) == 0
    assert [race["methods"][0]["seeds"] for race in json.loads(told.read_text())] == [2, 1]


def test_the_page_and_the_summary_for_machines_are_two_files(runs, tmp_path, capsys):
    page, told = tmp_path / "r[red].html", tmp_path / "report.json"
    assert main(["report", str(runs[0]), "--out", str(page), "--json", str(told)]) == 0
    # Not as a colour.
    assert "r[red].html" in capsys.readouterr().out
    (race,) = json.loads(told.read_text())
    assert (race["task"], race["directory"]) == ("adding", str(runs[0]))
    with pytest.raises(SystemExit, match="2"):
        main(["report", str(runs[0]), "--out", str(page), "--json", str(page)])
    assert "--json must be another file than --out" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_as_by_other_commands(runs, capsys):
    assert main(["report", str(runs[0]), "--out", "/dev/full"]) == 1
    assert "lightning-fw: cannot write: No space left on device" in capsys.readouterr().err


def test_a_missing_plotly_is_named(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.subplots", None)
    assert main(["report", str(runs[0]), "--out", str(tmp_path / "report.html")]) == 2
    assert "pip install 'lightning-fw[report]'" in capsys.readouterr().err
