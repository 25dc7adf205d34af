"""What lies in --out: a race that goes on, or a reason not to start."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from lightning_fw import InnerLoop
from lightning_fw.race.command import main, parse
from lightning_fw.race.entrants import Tuned, read_tuned
from lightning_fw.race.lock import LOCK, lock
from lightning_fw.race.points import Point, read_points, write_points
from lightning_fw.race.tuning import Trial, write_tuned

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("sklearn", reason="needs the extra `data`")


def race(out, *more):
    arguments = ["--task", "digits", "--methods", "adam", "--seeds", "1", "--every", "2"]
    return main([*arguments, "--budget", "2", "--out", str(out), *more])


@pytest.fixture(scope="module")
def a_race(tmp_path_factory):
    directory = tmp_path_factory.mktemp("a_race")
    assert race(directory) == 0
    return directory


@pytest.fixture
def raced(a_race, tmp_path, capsys):
    """A copy to change."""
    capsys.readouterr()
    return shutil.copytree(a_race, tmp_path, dirs_exist_ok=True)


def test_a_run_that_lost_a_point_is_made_again(tmp_path):
    arguments = ("--seeds", "2", "--every", "1")
    race(tmp_path, *arguments)
    whole = read_points(tmp_path / "race.csv")
    write_points(tmp_path / "race.csv", whole[1:])
    assert race(tmp_path, *arguments) == 0
    again = read_points(tmp_path / "race.csv")
    assert again[:2] == whole[2:]
    assert [point[:3] for point in again[2:]] == [point[:3] for point in whole[:2]]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("--budget", "7"), "a race with another budget: 2, not 7"),
        (("--every", "1"), "a race with another every: 2, not 1"),
        (("--threads", "2"), "a race with another threads: 1, not 2"),
        (("--cell", "gru"), "a race with another cell: 'lstm', not 'gru'"),
        (
            ("--set", "lr=0.5"),
            r"another adam setting: .*, not {'lr': 0.5}.* Pass another directory",
        ),
    ],
)
def test_a_directory_with_another_race_is_refused(raced, capsys, other, message):
    before = (raced / "race.csv").read_text()
    assert race(raced, *other) == 2
    assert re.search(message, capsys.readouterr().err)
    assert (raced / "race.csv").read_text() == before


def test_a_race_on_other_data_files_is_refused(raced, capsys):
    known = json.loads((raced / "race.json").read_text())
    (raced / "race.json").write_text(json.dumps({**known, "test_size": 10_000}))
    assert race(raced) == 2
    assert "a race with another test_size: 10000, not 400" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("race.csv", "a,b\n1,2\n", "with other columns than method, seed"),
        ("race.csv", "", "with other columns than method, seed"),
        ("race.json", "{", "race.json, which is none"),
        ("race.json", "[]", "race.json, which is none"),
        ("race.json", json.dumps({"task": "digits"}), "race.json, which is none"),
        ("race.json", json.dumps({"methods": {"evolution": {}}}), "race.json, which is none"),
        ("race.json", json.dumps({"methods": {"adam": {"rate": 1}}}), "race.json, which is none"),
        (
            "race.json",
            json.dumps({"methods": {"paper": {"lr": 1}}}),
            "paper must hold nothing, got",
        ),
    ],
)
def test_a_directory_of_something_else_is_refused(raced, capsys, name, content, message):
    (raced / name).write_text(content)
    assert race(raced) == 2
    assert message in capsys.readouterr().err
    assert (raced / name).read_text() == content


def test_points_without_settings_are_refused(raced, capsys):
    (raced / "race.json").unlink()
    assert race(raced) == 2
    assert "got race.csv without race.json" in capsys.readouterr().err


def test_a_row_that_is_no_point_is_named(raced, capsys):
    with (raced / "race.csv").open("a") as file:
        file.write("adam,one,2,0.1,0.2,0.3\n")
    assert race(raced) == 2
    told = capsys.readouterr().err
    assert re.search(r"got race\.csv with a row that is no point, .*'one' in ", told)
    assert str(raced) in told


@pytest.mark.parametrize(
    ("name", "row"),
    [("trials.csv", "x"), ("trials.csv", "adam,0,lr=x,0,1,1"), ("tuned.csv", "digits")],
)
def test_a_trial_that_cannot_be_read_is_told_before_training(tmp_path, capsys, name, row):
    columns = {"trials.csv": Trial, "tuned.csv": Tuned}[name]._fields
    (tmp_path / name).write_text(f"{','.join(columns)}\n{row}\n")
    assert race(tmp_path, "--tune", "1") == 2
    assert f"`--out` must hold trials or none, got {name} that" in capsys.readouterr().err
    assert not (tmp_path / "race.json").exists()


def test_a_directory_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert race(tmp_path / "file") == 2
    assert "`--out` must be a directory that can be written to" in capsys.readouterr().err


def test_a_race_in_progress_is_left_alone(raced, capsys):
    pytest.importorskip("fcntl", reason="needs locks of files")
    before = (raced / "race.csv").read_bytes()
    with lock(raced):
        assert race(raced, "--first-seed", "1") == 2
    assert "`--out` must have no race in progress, got" in capsys.readouterr().err
    assert (raced / "race.csv").read_bytes() == before
    assert race(raced, "--first-seed", "1") == 0


def test_settings_chosen_before_stay_until_new_ones_are_whole(tmp_path, monkeypatch):
    settings = parse(["--task", "digits", "--methods", "adam"])
    chosen = {"adam": Trial("adam", 0, {"lr": 0.1}, 2, 30.0, 0.9)}
    write_tuned(tmp_path / "tuned.csv", chosen, settings)
    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_tuned(tmp_path / "tuned.csv", {"sgd": chosen["adam"]}, settings)
    assert [line.method for line in read_tuned(tmp_path / "tuned.csv")] == ["adam"]


def test_a_method_that_is_tuned_again_has_one_line(tmp_path):
    settings = parse(["--task", "digits", "--tune", "1", "--out", str(tmp_path)])
    for name, lr in (("adam", 0.1), ("sgd", 0.2), ("adam", 0.3)):
        chosen = {name: Trial(name, 0, {"lr": lr}, 2, 10.0, 0.9)}
        lines = write_tuned(tmp_path / "tuned.csv", chosen, settings)
    assert [(line.method, line.setting["lr"]) for line in lines] == [("sgd", 0.2), ("adam", 0.3)]


def killed(*arguments):
    raise KeyboardInterrupt


def test_points_survive_a_file(tmp_path):
    points = [
        Point("paper", 3, 25, 0.1 + 0.2, 1e-9, 1 / 3),
        Point("adam", 0, 1, 0, 0, float("inf")),
    ]
    write_points(tmp_path / "race.csv", points)
    assert read_points(tmp_path / "race.csv") == points


def test_a_row_cut_off_is_left_out_even_where_it_reads_as_a_point(tmp_path):
    points = [Point("paper", 3, 25, 0.5, 0.25, 0.125), Point("paper", 3, 50, 0.75, 0.25, 0.125)]
    write_points(tmp_path / "race.csv", points)
    text = (tmp_path / "race.csv").read_bytes()
    (tmp_path / "race.csv").write_bytes(text[: -len("25\r\n")])
    assert read_points(tmp_path / "race.csv") == points[:1]


def test_runs_of_another_version_of_a_method_are_not_gone_on_with(tmp_path, capsys):
    assert race(tmp_path, "--methods", "spectral") == 0
    path = tmp_path / "race.json"
    assert race(tmp_path, "--methods", "adam") == 0
    held = json.loads(path.read_text())
    assert held["inner_loops"] == {"spectral": repr(InnerLoop.spectral()), "adam": None}
    held["inner_loops"]["spectral"] = repr(InnerLoop.paper())
    path.write_text(json.dumps(held))
    assert race(tmp_path, "--methods", "spectral", "--seeds", "2") == 2
    told = capsys.readouterr().err
    assert "another spectral inner loop, of another version of this package: " in told
    assert {point.seed for point in read_points(tmp_path / "race.csv")} == {0}
    del held["inner_loops"]  # of a version that did not tell
    path.write_text(json.dumps(held))
    assert race(tmp_path, "--methods", "spectral", "--seeds", "2") == 0


def test_a_race_of_before_accelerators_is_not_gone_on_with_on_a_gpu(raced, capsys, monkeypatch):
    path = raced / "race.json"
    held = json.loads(path.read_text())
    del held["accelerator"]
    path.write_text(json.dumps(held))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert race(raced, "--accelerator", "gpu", "--seeds", "2") == 2
    assert "a race with another accelerator: 'cpu', not 'gpu'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["race.png", "summary.csv"])
def test_a_directory_in_the_place_of_a_file_is_named_before_training(name, tmp_path, capsys):
    (tmp_path / name).mkdir()
    assert race(tmp_path, "--seeds", "1") == 2
    assert f"`--out` must hold files alone by the race's names, got {tmp_path / name}" in (
        capsys.readouterr().err
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_where_there_are_no_locks_nothing_is_held(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="needs locks of files")

    def no_locks(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", no_locks)
        with lock(tmp_path) as first, lock(tmp_path) as second:
            assert not first.closed
            assert not second.closed
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "fcntl", None)
        with lock(tmp_path) as first, lock(tmp_path) as second:
            assert not first.closed
            assert not second.closed


def test_directories_are_held_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with lock(tmp_path / "a"), lock(tmp_path / "b"):
        assert (tmp_path / "a" / LOCK).exists()
