"""The race as a user runs it: fair, resumable, and clear about mistakes."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time

import pytest

from lightning_fw.race.command import main
from lightning_fw.race.points import Point, read_points, write_points

METHODS = ["spectral", "paper", "adam", "adam-clip"]

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("sklearn", reason="needs the extra `data`")


def race(out, *more):
    return main(["--task", "digits", "--out", str(out), *more])


def tiny(out, *more):
    return race(out, "--methods", *METHODS, "--seeds", "2", "--budget", "6", "--every", "4", *more)


def test_every_method_spends_the_same_evaluations_and_leaves_its_points(tmp_path, capsys):
    assert tiny(tmp_path) == 0
    points = read_points(tmp_path / "race.csv")
    assert [(p.method, p.seed, p.evaluations) for p in points] == [
        (method, seed, evaluations)
        for seed in (0, 1)
        for method in METHODS
        for evaluations in (4, 6)
    ]
    assert all(0 <= p.test_metric <= 1 and p.train_loss > 0 for p in points)
    assert all(b.seconds > a.seconds > 0 for a, b in zip(points[::2], points[1::2], strict=True))
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")
    with (tmp_path / "summary.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == METHODS
    told = capsys.readouterr().out
    assert "digits by row: to test accuracy 0.95" in told
    assert "0 of 2" in told


def test_a_seed_gives_every_method_the_same_start(tmp_path):
    race(tmp_path, "--methods", *METHODS, "--seeds", "2", "--budget", "1", "--every", "1")
    points = read_points(tmp_path / "race.csv")
    losses = {seed: {p.train_loss for p in points if p.seed == seed} for seed in (0, 1)}
    assert len(losses[0]) == len(losses[1]) == 1
    assert losses[0] != losses[1]


def test_more_seeds_go_on_where_the_race_stopped(tmp_path):
    arguments = ("--methods", "spectral", "--budget", "4", "--every", "2")
    race(tmp_path, *arguments, "--seeds", "1")
    first = read_points(tmp_path / "race.csv")
    race(tmp_path, *arguments, "--seeds", "2")
    assert read_points(tmp_path / "race.csv")[:2] == first
    assert [p.seed for p in read_points(tmp_path / "race.csv")] == [0, 0, 1, 1]


def test_a_half_finished_run_is_made_again(tmp_path):
    arguments = ("--methods", "spectral", "adam", "--seeds", "1", "--budget", "4", "--every", "2")
    race(tmp_path, *arguments)
    whole = read_points(tmp_path / "race.csv")
    write_points(tmp_path / "race.csv", whole[:3])
    with (tmp_path / "race.csv").open("a") as file:
        file.write("adam,0,4,0.")
    race(tmp_path, *arguments)
    again = read_points(tmp_path / "race.csv")
    assert again[:2] == whole[:2]
    assert [p[:3] for p in again] == [p[:3] for p in whole]


def test_an_interrupted_race_keeps_what_it_has_and_goes_on(tmp_path):
    arguments = ["--task", "digits", "--methods", "adam", "paper", "--seeds", "1"]
    arguments += ["--budget", "150", "--every", "10", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "lightning_fw.cli", "race", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 60
    while not any(p.method == "paper" for p in read_points(tmp_path / "race.csv")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Run the same command again to go on" in " ".join(output.split())
    kept = [p for p in read_points(tmp_path / "race.csv") if p.method == "adam"]
    assert kept[-1].evaluations == 150
    assert main(arguments) == 0
    points = read_points(tmp_path / "race.csv")
    assert [p for p in points if p.method == "adam"] == kept
    assert points[-1].method == "paper" and points[-1].evaluations == 150


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("--budget", "7"), "a race with another budget: 6, not 7"),
        (("--cell", "gru"), "a race with another cell: 'lstm', not 'gru'"),
        (("--lr", "0.5"), "a race with another methods.adam: .* Pass another directory"),
    ],
)
def test_a_directory_with_another_race_is_refused(tmp_path, capsys, other, message):
    tiny(tmp_path)
    before = (tmp_path / "race.csv").read_text()
    assert tiny(tmp_path, *other) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert (tmp_path / "race.csv").read_text() == before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("race.csv", "a,b\n1,2\n", "with other columns than method, seed"),
        ("race.json", "{", "race.json, which is none"),
        ("race.json", json.dumps({"task": "digits"}), "race.json, which is none"),
    ],
)
def test_a_directory_of_something_else_is_refused(tmp_path, capsys, name, content, message):
    (tmp_path / name).write_text(content)
    assert tiny(tmp_path) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / name).read_text() == content


def test_a_directory_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert tiny(tmp_path / "file") == 2
    assert "`--out` must be a directory that can be written to" in capsys.readouterr().err


def test_missing_data_files_are_named_before_training(tmp_path, capsys):
    arguments = ["--task", "mnist", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "`root` must hold t10k-images" in capsys.readouterr().err


def test_without_matplotlib_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert tiny(tmp_path) == 2
    assert "pip install 'lightning-fw[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--task", "sorting"),
        ("--cell", "transformer"),
        ("--methods", "sgd"),
        ("--seeds", "0"),
        ("--budget", "-3"),
        ("--every", "x"),
    ],
)
def test_unknown_choices_and_numbers_are_named(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(list(arguments))
    assert arguments[1] in capsys.readouterr().err


def test_mnist_is_raced_from_files(shared_data, tmp_path):
    arguments = ["--task", "mnist", "--data", str(shared_data / "mnist"), "--out", str(tmp_path)]
    arguments += ["--methods", "spectral", "--seeds", "1", "--budget", "3", "--every", "3"]
    assert main(arguments) == 0
    assert len(read_points(tmp_path / "race.csv")) == 1


def test_points_survive_a_file(tmp_path):
    points = [Point("paper", 3, 25, 0.1 + 0.2, 1e-9, 1 / 3)]
    write_points(tmp_path / "race.csv", points)
    assert read_points(tmp_path / "race.csv") == points
