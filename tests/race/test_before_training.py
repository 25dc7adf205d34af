"""What a race is to train, and what is in its way, is known before it trains."""

from __future__ import annotations

import json

import pytest
import torch

from lightning_fw.race.command import main, parse
from lightning_fw.race.run import Course, make_model
from lightning_fw.race.tasks import TASKS

pytest.importorskip("matplotlib", reason="needs the extra `plot`")
pytest.importorskip("sklearn", reason="needs the extra `data`")


@pytest.mark.parametrize(("asked", "layers"), [((), 6), (("--num-layers", "1"), 1)])
def test_a_stack_has_the_layers_asked_for(asked, layers):
    settings = parse(["--task", "digits", "--cell", "indrnn-stack", "--methods", "adam", *asked])
    task = TASKS["digits"]
    course = Course(
        task=task, cell=settings.cell, network=settings.network, every=1, root=settings.data
    )
    model = make_model(settings.choose(())[0], course, task.data(0, settings.data), seed=0)
    assert len(model.rnn.layers) == layers
    named = parse(["--cell", "indrnn-stack", "--num-layers", "6"])
    assert named.network == parse(["--cell", "indrnn-stack"]).network


def test_what_is_wrong_with_training_files_is_told_before_training(shared_data, tmp_path, capsys):
    for file in (shared_data / "mnist").glob("*.gz"):
        for name in (file.name, file.name.replace("t10k", "train")):
            (tmp_path / name).write_bytes(file.read_bytes())
    damaged = tmp_path / "train-images-idx3-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:100_000])
    arguments = ["--task", "mnist", "--methods", "adam", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--data", str(tmp_path)]) == 2
    assert "`path` must be a whole IDX file of unsigned bytes, got" in capsys.readouterr().err
    assert not (tmp_path / "out" / "race.json").exists()


def test_a_text_too_short_to_be_measured_on_is_told(tmp_path, capsys):
    (tmp_path / "shakespeare.txt").write_text("To be, or not to be.\n" * 20)
    arguments = ["--task", "shakespeare-words", "--batch-size", "2", "--data", str(tmp_path)]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    told = "`--data` must hold a text of more than 32 tokens in each part, got "
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ranks", "most"), [((), 1197), (("--strategy", "ddp", "--devices", "2"), 598)]
)
def test_a_batch_larger_than_the_training_set_is_told(ranks, most, tmp_path, capsys):
    arguments = ["--task", "digits", "--methods", "adam", "--out", str(tmp_path / "out"), *ranks]
    assert main([*arguments, "--batch-size", str(most + 1)]) == 2
    told = (
        f"`--batch-size` must be at most {most}, got {most + 1}: digits by row has 1197 sequences"
    )
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out" / "race.json").exists()
    small = ("--hidden-size", "4", "--seeds", "1", "--budget", "1", "--every", "1")
    assert main([*arguments, *small, "--batch-size", str(most)]) == 0


def test_a_value_is_given_to_the_methods_that_take_it_alone():
    settings = parse(["--methods", "adam-clip", "spectral", "--set", "lr=0.5"])
    assert [each.setting for each in settings.choose(())] == [{"lr": 0.5, "clip": 1.0}, {}]


def test_a_race_is_run_on_the_threads_that_it_is_known_by(tmp_path):
    small = ["--task", "digits", "--methods", "adam", "--seeds", "1", "--budget", "1"]
    small += ["--hidden-size", "4", "--batch-size", "2", "--out", str(tmp_path)]
    assert main([*small, "--threads", "2"]) == 0
    known = json.loads((tmp_path / "race.json").read_text())
    assert known["threads"] == torch.get_num_threads() == 2


@pytest.mark.parametrize("held", [b"--task 'digits", b"--task \xff", b"@a.args"])
def test_a_file_of_arguments_that_cannot_be_read_is_told(held, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.args").write_bytes(held)
    with pytest.raises(SystemExit, match="2"):
        main(["@a.args"])
    assert "error: @FILE must hold arguments in UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads", "--hidden-size", "--budget"])
def test_a_number_too_large_for_torch_is_told(option, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse([option, str(2**31)])
    told = f"{option}: must be a whole number >= 1 and < 2**31, got 2147483648"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("path", ["run/race.json", "{}/run/race.json"])
def test_the_races_own_files_are_known_by_any_path(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit, match="2"):
        parse(["--out", "run", "--json", path.format(tmp_path)])
    assert "--json must be none of the race's own files" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "seeds"), [("98", "2"), ("102", "1")])
def test_seeds_beside_those_of_tuning_may_be_raced(first, seeds):
    settings = parse(["--first-seed", first, "--seeds", seeds])
    assert (settings.first_seed, settings.seeds) == (int(first), int(seeds))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "adam", "l2", "--set", "steps=2.5"), "--set steps must be a whole number"),
        (
            ("--methods", "adam", "spectral-tbptt", "--bidirectional"),
            "spectral-tbptt in --methods carries a state along time",
        ),
    ],
)
def test_what_one_of_several_methods_does_not_take_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(arguments)
    assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("arguments", [("--tune", "2", "--methods", "paper", "spectral"), ()])
def test_a_race_that_trains_nothing_is_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        parse(["--seeds", "0", *arguments])
    assert "--seeds 0 trains nothing: pass --seeds 1, or --tune and" in capsys.readouterr().err
    assert parse(["--seeds", "0", "--tune", "2", "--methods", "paper", "adam"]).seeds == 0
