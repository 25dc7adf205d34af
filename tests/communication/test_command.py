"""``lightning-fw bench --comm`` as a user runs it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from multiprocessing import active_children

import pytest
import torch

from lightning_fw.cli import main
from lightning_fw.communication.measure import Row, seconds_a_batch
from lightning_fw.race.points import Point
from lightning_fw.race.tasks import TASKS

# With the digits: a rank forked from here need not import them.
pytest.importorskip("sklearn.datasets", reason="needs the extra `data`")

TINY = ("bench", "--comm", "--task", "digits", "--cell", "rnn", "--steps", "2", "2", "--every", "2")


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert active_children() == []


def test_it_writes_its_table_and_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], target=0.0))
    path = tmp_path / "comm.json"
    assert main([*TINY, "--batches", "4", "--budget", "1", "--json", str(path)]) == 0
    told = capsys.readouterr().out
    assert "2 gloo processes of one machine" in " ".join(told.split())
    report = json.loads(path.read_text())
    assert report["format"] == "lightning_fw bench --comm 1"
    assert (report["devices"], report["batches"], report["steps"]) == (2, 4, [2])
    rows = report["results"]
    assert [row["name"] for row in rows][1:] == ["every step, K=2", "local windows, K=2"]
    assert rows[0]["name"].startswith("DDP, Adam + clipping (not tuned: ")
    # An epoch begins within the ten batches, where ranks compare their numbers of batches.
    assert [row["all_reduces_a_batch"] for row in rows] == [1, 1.1, 0.6]
    assert all(row["seconds_a_batch"] > 0 and 0 <= row["test_metric"] <= 1 for row in rows)
    assert [row["batches_to_target"] for row in rows] == [2, 2, 2]
    assert [Row(**row).all_reduces_to_target for row in rows] == [2, 2, 1]
    assert [row["way"] for row in rows] == ["ddp", "step", "restart"]


def test_a_target_that_is_not_reached_is_left_open(tmp_path, capsys):
    path = tmp_path / "comm.json"
    arguments = ["--batches", "2", "--budget", "2", "--seeds", "2", "--json", str(path)]
    assert main([*TINY, *arguments]) == 0
    rows = json.loads(path.read_text())["results"]
    assert {row["batches_to_target"] for row in rows} == {None}
    assert {Row(**row).all_reduces_to_target for row in rows} == {None}


def points(*seconds):
    """One every two batches."""
    return [Point("", 0, 2 * n, each, 0.0, 0.0) for n, each in enumerate(seconds, 1)]


def test_a_batch_has_its_share_of_a_message_that_comes_between_few_of_the_points():
    # A second a batch, and ten more for the message of a window of six batches.
    assert seconds_a_batch(points(9, 11, 23, 25, 27, 39, 41)) == pytest.approx(32 / 12)


def test_of_a_run_of_one_point_all_of_it_is_timed():
    assert seconds_a_batch(points(9)) == 4.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--devices", "1"), "--devices: must be a whole number >= 2, got 1"),
        (("--devices", "two"), "--devices: must be a whole number >= 1, got two"),
        (("--steps", "0"), "--steps: must be a whole number >= 1, got 0"),
        (("--batches", "3", "--every", "10"), "--batches must be a multiple of --every, got 3"),
        (("--batches", "-1"), "--batches: must be a whole number >= 1, got -1"),
        (("--task", "mnist"), "--task: must be one of adding, digits; got mnist"),
        (("--json", "none/comm.json"), "--json: must be a file in a directory that exists, got"),
        (("--rounds", "3"), "unrecognized arguments: --rounds 3"),
    ],
)
def test_a_mistake_is_named_before_it_measures(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--comm", *arguments])
    assert message in " ".join(capsys.readouterr().err.split())


def test_ranks_threads_and_windows_are_those_asked_for_in_their_order(tmp_path, monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    def measured(contender, settings):
        return Row(contender.title, contender.way, contender.steps, 1.0, 0.0, 8.0, 0.1, 0.5, None)

    monkeypatch.setattr("lightning_fw.communication.command.measure", measured)
    path = tmp_path / "comm.json"
    arguments = ("--devices", "2", "--steps", "5", "2", "5", "--threads", "2", "--json", str(path))
    assert main(["bench", "--comm", *arguments]) == 0
    report = json.loads(path.read_text())
    assert (report["devices"], report["steps"], report["threads"]) == (2, [5, 2], 2)
    assert [row["steps"] for row in report["results"]] == [1, 5, 2, 5, 2]
    assert threads == [2]


def test_what_a_tasks_data_need_is_told_in_a_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert main(["bench", "--comm", "--task", "digits"]) == 2
    assert capsys.readouterr().err == (
        "lightning-fw bench --comm: SequentialDigits needs scikit-learn. "
        "Run pip install 'lightning-fw[data]'.\n"
    )
