"""``--json``: the race's summary for programs, and what it says of runs that are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lightning_fw.race.contest import Contest
from tests.race.test_command import race

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("sklearn", reason="needs the extra `data`")


def test_the_summary_for_machines(tmp_path):
    path = tmp_path / "summary.json"
    assert race(
        tmp_path / "run",
        *("--methods", "spectral", "adam-clip", "--seeds", "2", "--budget", "4"),
        *("--json", str(path)),
    ) == 0  # fmt: skip
    told = json.loads(path.read_text())
    assert (told["task"], told["cell"], told["budget"]) == ("digits", "lstm", 4)
    assert (told["metric"], told["target"], told["complete"]) == ("test accuracy", 0.95, True)
    ours, theirs = told["methods"]
    assert (ours["method"], ours["seeds"], ours["reached"]) == ("spectral", 2, 0)
    assert ours["evaluations"] is None
    assert 0 <= ours["worst_metric"] <= ours["final_metric"] <= 1
    assert ours["setting"] == {}
    assert set(theirs["setting"]) == {"lr", "clip"}


def test_without_a_file_the_summary_is_all_of_stdout(tmp_path, capsys):
    arguments = ("--methods", "spectral", "--seeds", "1", "--budget", "4", "--json")
    assert race(tmp_path, *arguments) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["complete"]
    assert "Frank-Wolfe, spectral" in told.err


def test_the_summary_of_a_part_says_so(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / "summary.json"
    arguments = ("--methods", "spectral", "--budget", "4", "--json", str(path))
    assert race(tmp_path / "run", *arguments, "--seeds", "1") == 0
    assert json.loads(path.read_text())["complete"]
    monkeypatch.setattr(Contest, "_run_one", interrupted)
    for missing in (("--seeds", "2"), ("--first-seed", "5", "--seeds", "1")):
        assert race(tmp_path / "run", *arguments, *missing) == 130
        told = json.loads(path.read_text())
        assert not told["complete"]
        assert told["methods"][0]["seeds"] == 1


@pytest.mark.parametrize("seeds", ["3", "0"])
def test_the_summary_of_a_race_that_is_not_tuned_yet_says_so(seeds, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    path = tmp_path / "summary.json"
    path.write_text('{"complete": true}')
    monkeypatch.setattr(Contest, "_tuned", interrupted)
    arguments = ("--tune", "2", "--seeds", seeds, "--json", str(path))
    assert race(tmp_path / "run", *arguments) == 130
    assert json.loads(path.read_text())["complete"] is False


@pytest.mark.parametrize("name", ["race.json", "race.csv", "trials.csv"])
def test_the_summary_does_not_take_the_place_of_the_races_own_files(name, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        race(tmp_path, "--json", str(tmp_path / name))
    assert "--json must be none of the race's own files" in capsys.readouterr().err


def test_a_locale_without_unicode_gets_all_files(tmp_path):
    arguments = ("--task", "digits", "--methods", "spectral-harmonic", "--budget", "2")
    more = ("--seeds", "1", "--out", "run", "--json", "summary.json")
    subprocess.run(
        [sys.executable, "-m", "lightning_fw.cli", "race", *arguments, *more],
        cwd=tmp_path,
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        timeout=100,
        check=True,
        capture_output=True,
    )
    assert "≥" in (tmp_path / "run" / "summary.md").read_text(encoding="utf-8")
    assert "γ" in json.loads((tmp_path / "summary.json").read_text())["methods"][0]["title"]


def test_a_summary_that_cannot_be_written_is_refused_at_once(tmp_path, capsys):
    with pytest.raises(SystemExit):
        race(tmp_path / "run", "--json", str(tmp_path / "nowhere" / "summary.json"))
    assert "must be a file in a directory that exists" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
