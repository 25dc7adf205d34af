"""Options of ``lightning-fw fit`` and ``test``: those of LightningCLI, and those left out."""

from __future__ import annotations

import json

import pytest

from tests.test_lightning_cli import DIGITS, OWN_MODULE

SMALL = (
    *("--data.train_size=40", "--data.val_size=10", "--data.test_size=10"),
    *("--model.hidden_size=4", "--trainer.accelerator=cpu"),
)
BARE = (*SMALL, "--trainer.logger=false", "--trainer.max_steps=1")


@pytest.mark.parametrize("option", ["-c", "--config"])
def test_a_config_of_either_name_chooses(option, run_here, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN_MODULE)
    (tmp_path / "c.yaml").write_text(
        "model: {class_path: own.Own}\ndata: {class_path: lightning_fw.data.SequentialDigits}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    status, told = run_here("fit", option, "c.yaml", "--model.mine", "6", "--print_config")
    assert status == 0, told
    assert "batch_size: 32" in told
    assert "mine: 6" in told


def test_a_class_path_keeps_its_own_defaults(run_here):
    status, told = run_here("fit", "--data.class_path", "SequentialDigits", "--print_config")
    assert status == 0, told
    assert "batch_size: 32" in told


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("option", ["-c", "--config"])
def test_a_config_is_a_choice(option, run_here, tmp_path):
    (tmp_path / "c.yaml").write_text(
        "model: {class_path: lightning_fw.nn.FrankWolfeRegressor}\n"
        "data: {class_path: lightning_fw.data.AddingProblem}\n"
    )
    arguments = ("--trainer.fast_dev_run=true", "--trainer.accelerator=cpu")
    status, told = run_here("fit", option, "c.yaml", *arguments)
    assert status == 0, told
    assert "Neither" not in told
    assert "No --ckpt_path" not in told


@pytest.mark.filterwarnings("ignore")
def test_a_directory_may_be_fitted_in_twice_without_a_logger(run_here):
    for _ in range(2):
        status, told = run_here("fit", *BARE, "--trainer.enable_checkpointing=false", "--json")
        assert status == 0, told
        found = json.loads(run_here.out)
        assert (found["checkpoint"], found["steps"]) == (None, 1)


@pytest.mark.filterwarnings("ignore")
def test_a_test_tells_machines_its_checkpoint(run_here, tmp_path):
    status, told = run_here("fit", *BARE)
    assert status == 0, told
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    status, told = run_here("test", *BARE[:-1], f"--ckpt_path={checkpoint}", "--json", "found.json")
    assert status == 0, told
    assert json.loads((tmp_path / "found.json").read_text())["checkpoint"] == str(checkpoint)
    assert "No --ckpt_path" not in told


@pytest.mark.parametrize("name", ["input_size", "output_size", "per_step"])
def test_what_the_data_set_is_to_be_left_out(name, run_here):
    status, told = run_here("fit", *DIGITS, f"--model.{name}=1")
    assert status == 2
    assert f"`--model.{name}` must be left out, got 1" in told


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "--model", '{"class_path": "FrankWolfeClassifier"}', "--print_config"),
        ("fit", "--data.help", "SequentialDigits"),
        ("fit", *DIGITS, "--data.dict_kwargs.batch_size", "4", "--print_config"),
    ],
    ids=["json", "help", "dict_kwargs"],
)
def test_other_ways_of_lightning_cli_are_taken(arguments, run_here):
    status, told = run_here(*arguments)
    assert status == 0, told


def test_an_exit_of_ones_own_is_no_interruption(run_here, tmp_path, monkeypatch):
    text = OWN_MODULE.replace("raise KeyboardInterrupt", "raise SystemExit(3)")
    (tmp_path / "own_exit.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    status, told = run_here(
        *("fit", "--model", "own_exit.Own", "--model.mine", "4"),
        *("--trainer.accelerator", "cpu", "--trainer.logger", "false"),
        *("--trainer.max_epochs", "1"),
    )
    assert (status, "Interrupted" in told) == (3, False)


OTHER = """
from lightning_fw.nn import FrankWolfeRegressor

class Other(FrankWolfeRegressor):
    def training_step(self, batch, batch_idx):
        raise RuntimeError("out of luck")
"""


@pytest.mark.filterwarnings("ignore")
def test_an_error_of_torch_that_is_not_of_a_checkpoint_shows_the_way_there(
    run_here, tmp_path, monkeypatch
):
    (tmp_path / "other.py").write_text(OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="out of luck"):
        run_here("fit", "--model", "other.Other", "--trainer.fast_dev_run=true")
