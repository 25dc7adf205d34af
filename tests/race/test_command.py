"""The race as a user runs it: fair, resumable, and clear about mistakes."""

from __future__ import annotations

import csv
import re
import sys
from dataclasses import replace

import pytest
import torch

from lightning_fw.race.command import main
from lightning_fw.race.entrants import enter
from lightning_fw.race.points import read_points, write_points
from lightning_fw.race.run import Course, make_model
from lightning_fw.race.tasks import TASKS

METHODS = ["spectral", "paper", "authors", "adam", "adam-clip"]

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
    summary = (tmp_path / "summary.md").read_text()
    assert re.search(r"\| Frank-Wolfe, spectral \(not tuned\) \| 0 of 2 \| – \| – \| 0\.", summary)
    told = capsys.readouterr().out
    assert "digits by row: to test accuracy ≥ 0.95" in told
    assert "0 of 2" in told
    assert "Interrupted" not in told


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


def test_methods_may_come_one_after_the_other(tmp_path, capsys):
    arguments = ("--seeds", "1", "--budget", "2", "--every", "2")
    race(tmp_path, *arguments, "--methods", "adam", "--set", "lr=0.5")
    race(tmp_path, *arguments, "--methods", "spectral")
    with (tmp_path / "summary.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["spectral", "adam"]
    assert "Adam (not tuned: lr=0.5)" in (tmp_path / "summary.md").read_text()


def test_an_interruption_before_the_first_run_is_no_error(tmp_path, capsys, monkeypatch):
    def interrupted(seed, root, batch_size):
        raise KeyboardInterrupt

    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], make_data=interrupted))
    assert tiny(tmp_path) == 130
    assert "Run the same command again to go on." in capsys.readouterr().err


def test_a_mistake_in_the_code_is_not_taken_for_one_of_the_user(tmp_path, monkeypatch):
    calls = []

    def broken_later(seed, root, batch_size):
        calls.append(seed)
        if len(calls) > 1:
            raise ValueError("a defect")
        return digits(seed, root, batch_size)

    digits = TASKS["digits"].make_data
    monkeypatch.setitem(TASKS, "digits", replace(TASKS["digits"], make_data=broken_later))
    with pytest.raises(ValueError, match="a defect"):
        tiny(tmp_path)


def test_missing_data_files_are_named_before_training(tmp_path, capsys):
    arguments = ["--task", "mnist", "--data", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "`--data` must be the directory of MNIST's files" in error
    assert "`root` must hold t10k-images" in error


def test_without_matplotlib_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert tiny(tmp_path) == 2
    assert "pip install 'lightning-fw[plot]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--task", "sorting"),
        ("--cell", "transformer"),
        ("--methods", "evolution"),
        ("--seeds", "0"),
        ("--budget", "-3"),
        ("--every", "x"),
        ("--first-seed", "-1"),
        ("--first-seed", "99999999999999999999"),
        ("--tune", "0"),
        ("--set", "lr=0"),
        ("--set", "much"),
        ("--hidden-size", "0"),
        ("--dropout", "nan"),
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "lr=1", "--methods", "spectral"), "--set lr is for authors, l2, adam, adamw,"),
        (("--set", "clip=1", "--methods", "adam", "paper"), "got --methods adam paper: pass one"),
        (("--set", "steps=2.5", "--methods", "l2"), "--set steps must be a whole number, got 2.5"),
        (("--first-seed", "99", "--seeds", "2"), "seeds 100 and 101 are for tuning"),
        (("--methods", "adam-clip-tbptt", "--bidirectional"), "carries a state along time"),
        (
            ("--methods", "spectral-tbptt", "--strategy", "ddp", "--devices", "2"),
            "carries a state along time",
        ),
        (
            ("--task", "shakespeare", "--methods", "spectral-tbptt"),
            "spectral-tbptt in --methods cuts sequences, got --task shakespeare",
        ),
        (("--accelerator", "gpu"), "--accelerator gpu needs a CUDA device, got none: pass cpu"),
        (("--set", "lrr=1", "--methods", "adam"), "of --methods adam: lr; got lrr, perhaps 'lr'"),
        (("--set", "lr=1", "--methods", "paper"), "--set lr is for authors, l2, adam, adamw,"),
        (("--set", "speed=1", "--methods", "paper"), "paper: they have none; got speed"),
        (("--set", "lr=1", "--methods", "adam", "--tune", "2"), "leave out --set or --tune"),
    ],
)
def test_a_setting_that_no_method_takes_is_refused(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        main(list(arguments))
    assert message in " ".join(capsys.readouterr().err.split())


def test_several_processes_on_a_gpu_are_refused(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(SystemExit, match="2"):
        main(["--accelerator", "gpu", "--strategy", "ddp", "--devices", "2"])
    assert "--strategy trains on processes of the CPU" in capsys.readouterr().err


def test_each_task_and_cell_has_a_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--task", "digits", "--methods", "adam", "--seeds", "1", "--budget", "1"]
    assert main([*tiny, "--cell", "gru"]) == main([*tiny, "--cell", "rnn"]) == 0
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [
        "digits-gru",
        "digits-rnn",
    ]


def test_arguments_may_stand_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "# A comment.\n--task digits --cell rnn\n--methods adam  # and another\n\n--seeds 1\n"
    (tmp_path / "small.args").write_text(lines)
    assert main(["@small.args", "--budget", "2", "--out", "here"]) == 0
    (point,) = read_points(tmp_path / "here" / "race.csv")
    assert (point.method, point.evaluations) == ("adam", 2)


def test_the_network_and_its_batches_are_the_users(tmp_path, capsys):
    shape = ("--hidden-size", "8", "--num-layers", "2", "--bidirectional", "--dropout", "0.25")
    more = ("--layer-norm", "--batch-size", "16", "--chrono", "50")
    small = ("--methods", "spectral", "adam", "--seeds", "1", "--budget", "2", "--every", "1")
    assert race(tmp_path, *small, *shape, *more) == 0
    words = "LSTM of 8 units, 2 layers, bidirectional, dropout 0.25, layer norm, chrono 50"
    text = (tmp_path / "summary.md").read_text()
    assert f"digits by row, {words}: gradient evaluations (batches of 16)" in text
    # What was tuned for the network of 128 units is not tuned for this one.
    assert "| Adam (not tuned: lr=" in text
    assert race(tmp_path, *small, *shape) == 2
    assert "a race with another batch_size: 16, not None" in capsys.readouterr().err


def test_a_cell_that_cannot_is_named_before_training(tmp_path, capsys):
    small = ("--methods", "adam", "--seeds", "1", "--budget", "2", "--cell", "indrnn")
    assert race(tmp_path, *small, "--num-layers", "2") == 2
    assert "`num_layers` must be 1 with cell" in capsys.readouterr().err
    assert not (tmp_path / "race.csv").exists()


@pytest.mark.parametrize("task", ["copy", "digits-pixel", "adding-30"])
def test_a_task_that_needs_no_files_is_raced(task, tmp_path):
    small = ["--methods", "spectral", "--seeds", "1", "--budget", "1", "--every", "1"]
    small += ["--batch-size", "4", "--hidden-size", "4", "--out", str(tmp_path)]
    assert main(["--task", task, *small]) == 0
    assert len(read_points(tmp_path / "race.csv")) == 1


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if task.files])
def test_a_task_without_its_files_says_which(name, tmp_path, capsys):
    arguments = ["--task", name, "--data", str(tmp_path / "none"), "--out", str(tmp_path)]
    assert main(arguments) == 2
    wanted = f"`--data` must be the directory of {TASKS[name].files}, got"
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(("name", "size"), [("shakespeare", None), ("shakespeare-words", 128)])
def test_words_alone_are_read_through_an_embedding(name, size, tmp_path):
    (tmp_path / "shakespeare.txt").write_text("To be, or not to be, that is the question.\n" * 200)
    course = Course(task=TASKS[name], cell="lstm", every=1, root=tmp_path)
    data = course.task.data(0, tmp_path)
    model = make_model(enter("adam", name, "lstm"), course, data, seed=0)
    assert (model.embedding and model.embedding.embedding_dim) == size


@pytest.mark.parametrize("task", ["shakespeare", "shakespeare-words"])
def test_characters_and_words_are_raced_from_a_file(task, tmp_path):
    (tmp_path / "shakespeare.txt").write_text("To be, or not to be, that is the question.\n" * 200)
    small = ["--methods", "spectral", "adam", "--seeds", "1", "--budget", "3", "--every", "3"]
    small += ["--batch-size", "4", "--hidden-size", "4", "--out", str(tmp_path / "out")]
    assert main(["--task", task, "--data", str(tmp_path), *small]) == 0
    points = read_points(tmp_path / "out" / "race.csv")
    assert [p.method for p in points] == ["spectral", "adam"]
    assert all(0 < p.test_metric < 4 for p in points)


def test_the_usual_network_is_the_one_that_was_tuned(tmp_path):
    small = ("--methods", "adam-clip", "--seeds", "1", "--budget", "1", "--every", "1")
    usual = ("--hidden-size", "128", "--num-layers", "1", "--batch-size", "32")
    assert race(tmp_path, *small, *usual) == 0
    assert "Adam + clipping (tuned: " in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [("scion", "momentum=1.5", "momentum=0.5"), ("lookahead", "alpha=2", "alpha=0.5")],
)
def test_a_value_that_a_method_refuses_leaves_no_race_behind(name, wrong, right, tmp_path, capsys):
    small = ("--methods", name, "--seeds", "1", "--budget", "1", "--every", "1")
    assert race(tmp_path, *small, "--set", wrong) == 2
    assert wrong.partition("=")[0] in capsys.readouterr().err
    assert race(tmp_path, *small, "--set", right) == 0


def test_measuring_more_often_changes_nothing_under_dropout(tmp_path):
    small = ("--methods", "adam", "--seeds", "1", "--budget", "6", "--dropout", "0.5")
    last = []
    for every in ("2", "6"):
        race(tmp_path / every, *small, "--every", every, "--hidden-size", "8")
        last.append(read_points(tmp_path / every / "race.csv")[-1].test_metric)
    assert last[0] == last[1]
