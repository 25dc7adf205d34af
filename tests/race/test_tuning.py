"""Tuning: the same rule for every method, and what it chose."""

from __future__ import annotations

import csv
import itertools

import pytest

from lightning_fw.race import tuning
from lightning_fw.race.methods import TUNED, Setting, choose_method, takes, with_setting
from lightning_fw.race.tasks import TASKS
from lightning_fw.race.tuning import GRIDS, Trial, best


def trial(evaluations, metric):
    return Trial("adam", 0.1, None, 2, evaluations, metric)


def test_the_fewest_evaluations_win_and_the_metric_decides_between_equals():
    slow, good, bad = trial(50.0, 0.0), trial(25.0, 0.3), trial(25.0, 0.4)
    assert best([slow, bad, good], TASKS["adding"]) == good
    assert best([slow, good, bad], TASKS["digits"]) == bad


def test_every_method_has_as_many_settings_to_choose_from():
    assert len({len(grid) for grid in GRIDS.values()}) == 1
    assert set(GRIDS) == {"adam", "adam-clip", "authors"}


def test_what_stands_in_methods_is_one_of_the_grid():
    assert all(setting in GRIDS[method] for (_, _, method, _), setting in TUNED.items())
    assert set(itertools.product(TASKS, ["lstm"], GRIDS, [1])) <= set(TUNED)


def test_what_was_not_tuned_says_so():
    method = choose_method("adam-clip", "adding", "rnn")
    assert ("adding", "rnn", "adam-clip", 1) not in TUNED
    assert method.label.startswith("Adam + clipping (not tuned: lr ")


def test_it_tries_all_and_prints_the_lines_of_methods(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    monkeypatch.setitem(tuning.BUDGETS, "digits", 50)
    monkeypatch.setattr(
        tuning, "GRIDS", {"adam": [Setting(1e-5), Setting(1e-2)], "adam-clip": [Setting(1e-2, 0.1)]}
    )
    arguments = ["--task", "digits", "--cell", "rnn", "--methods", "adam", "adam-clip"]
    assert tuning.main([*arguments, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        '("digits", "rnn", "adam", 1): Setting(0.01),  # 0 of 2, 100 evaluations',
        '("digits", "rnn", "adam-clip", 1): Setting(0.01, 0.1),  # 0 of 2, 100 evaluations',
    ]
    with (tmp_path / "digits-rnn.csv").open() as file:
        assert [row["lr"] for row in csv.DictReader(file)] == ["1e-05", "0.01", "0.01"]


def test_for_ranks_it_tunes_on_their_joined_batches(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    monkeypatch.setitem(tuning.BUDGETS, "digits", 25)
    monkeypatch.setattr(tuning, "GRIDS", {"adam": [Setting(1e-2)], "authors": [Setting(1e-2)]})
    arguments = ["--task", "digits", "--cell", "rnn", "--methods", "adam", "--out", str(tmp_path)]
    told = []
    for ranks in ("1", "4"):
        assert tuning.main([*arguments, "--ranks", ranks]) == 0
        told.append(capsys.readouterr().out)
    assert told[1].startswith('("digits", "rnn", "adam", 4): Setting(0.01),')
    assert len(told[1].splitlines()) == 1
    alone, joined = (
        list(csv.DictReader((tmp_path / f"digits-rnn{ranks}.csv").read_text().splitlines()))
        for ranks in ("", "-4")
    )
    assert alone[0]["metric"] != joined[0]["metric"]


@pytest.mark.parametrize(
    ("name", "setting", "message"),
    [
        ("adam-clip", None, "`setting` of adam-clip must be a Setting of lr and clip, got None"),
        ("spectral", Setting(0.1), "`setting` of spectral must be None, got Setting"),
    ],
)
def test_a_setting_goes_with_a_method_that_takes_one(name, setting, message):
    assert bool(takes(name)) == (setting is None)
    with pytest.raises(ValueError, match=message):
        with_setting(name, setting)
