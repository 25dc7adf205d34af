"""The commands ``lightning-fw fit``, ``validate`` and ``test``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.unread import run_unread_forked

pytest.importorskip("jsonargparse", reason="needs the extra `cli`")


def run(*arguments, cwd):
    command = [sys.executable, "-m", "lightning_fw.cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["--model", "FrankWolfeRegresor"], "FrankWolfeRegressor"),
        (["--model=SequenceClasifier"], "SequenceClassifier"),
        (["--data", "AddingProblm"], "AddingProblem"),
        (["--model.cell", "lsmt"], "lstm"),
        (["--model.preset", "spektral"], "spectral"),
        (["--model.hiden_size", "4"], "hidden_size"),
        (["--model", "FrankWolfeClassifier", "--model.prest=paper"], "preset"),
        (["--data", "SequentialDigits", "--data.batchsize", "4"], "batch_size"),
        (["--trainer.max_epch", "4"], "--trainer.max_epochs"),
        (["--jsn"], "--json"),
        (["--data.class_path", "SequentialDigits", "--data.batchsize", "4"], "batch_size"),
        (["--data", "InChunks", "--data.chunk_lenth", "4"], "chunk_length"),
        (["--model", "SequenceModel"], "SequenceRegressor"),
    ],
)
def test_a_wrong_name_is_told_the_nearest(arguments, nearest, run_here):
    status, told = run_here("fit", *arguments)
    assert status == 2
    assert told.endswith(f", perhaps {nearest!r}.\n")


def test_fit_trains_the_default_network_on_data_that_sets_its_sizes(tmp_path):
    done = run(
        *("fit", "--data", "AddingProblem", "--data.sequence_length", "10"),
        *("--data.train_size", "200", "--model.hidden_size", "8", "--model.cell", "gru"),
        *("--trainer.max_steps", "1", "--trainer.accelerator", "cpu", "--trainer.logger", "false"),
        # By their names, which a process that imported little may not know.
        *("--trainer.callbacks+=FWRestartMonitor", "--trainer.callbacks+=AnchorAveraging"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "`max_steps=1` reached" in done.stderr


def test_fit_alone_trains_on_the_adding_problem(run_here):
    status, told = run_here(
        *("fit", "--data.train_size", "100", "--model.hidden_size", "4"),
        *("--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu"),
    )
    assert status == 0, told
    assert "Neither" not in told


def test_fit_without_a_choice_says_what_it_trains(run_here):
    status, told = run_here(
        *("fit", "--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu"),
    )
    assert status == 0, told
    assert "Neither --model nor --data is given: FrankWolfeRegressor on AddingProblem." in told


@pytest.mark.parametrize(
    "chosen",
    [
        ("--model", "FrankWolfeClassifier", "--data", "SequentialDigits"),
        ("--model=FrankWolfeClassifier", "--data=CopyMemory", "--data.delay", "3"),
        (
            *("--model", "LanguageModel", "--model.embedding_size", "4"),
            *("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.1"),
            *("--data", "TextData", "--data.train", "file.txt", "--data.batch_size", "4"),
        ),
        ("--model", "FrankWolfeLanguageModel", "--data", "TextData", "--data.train", "file.txt"),
    ],
    ids=["classes", "classes per step", "text by SGD", "text"],
)
def test_fit_trains_any_network_on_data_of_its_kind(chosen, tmp_path, run_here):
    pytest.importorskip("sklearn", reason="needs the extra `data`")
    (tmp_path / "file.txt").write_text("the cat sat on the mat\n" * 200)
    status, told = run_here(
        *("fit", *chosen, "--model.hidden_size", "4"),
        *("--trainer.fast_dev_run", "true", "--trainer.accelerator", "cpu"),
    )
    assert status == 0, told


def test_data_that_is_asked_for_keeps_its_own_defaults(run_here, tmp_path):
    status, told = run_here("fit", "--data", "SequentialDigits", "--print_config")
    assert status == 0 and "batch_size: 32" in told
    (tmp_path / "c.yaml").write_text("data: {class_path: lightning_fw.data.SequentialDigits}\n")
    status, told = run_here("fit", "--config", "c.yaml", "--print_config")
    assert status == 0 and "batch_size: 32" in told


def test_fit_says_which_network_fits_the_data(run_here):
    status, told = run_here("fit", "--data", "SequentialDigits")
    assert status == 2
    assert told.endswith("Pass it to a SequenceClassifier or FrankWolfeClassifier.\n")


@pytest.mark.parametrize("to", [["--json", "found.json"], ["--json"]], ids=["a file", "stdout"])
def test_fit_tells_machines_what_it_came_to(to, run_here, tmp_path):
    status, told = run_here(
        *("fit", "--data.train_size", "150", "--model.hidden_size", "4", *to),
        *("--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"),
    )
    assert status == 0, told
    path = tmp_path / "found.json"
    found = json.loads(path.read_text() if path.exists() else run_here.out)
    assert (found["command"], found["epochs"], found["steps"]) == ("fit", 1, 2)
    assert found["complete"]
    assert set(found["metrics"]) >= {"train_loss", "val_metric"}
    assert (tmp_path / found["checkpoint"]).is_file()
    # Another run with this config must not write over it.
    (config,) = tmp_path.glob("lightning_logs/*/config.yaml")
    assert "found.json" not in config.read_text()


def test_a_test_tells_machines_its_metrics(run_here, tmp_path):
    status, told = run_here(
        *("test", "--data.test_size", "10", "--model.hidden_size", "4", "--json", "found.json"),
        *("--trainer.accelerator", "cpu", "--trainer.logger", "false"),
    )
    assert status == 0, told
    found = json.loads((tmp_path / "found.json").read_text())
    assert list(found["metrics"]) == ["test_metric"]
    assert "No --ckpt_path is given: the network is not trained." in told
    assert found["checkpoint"] is None
    assert "steps" not in found


OWN_MODULE = """
from lightning_fw.nn import FrankWolfeRegressor

class Own(FrankWolfeRegressor):
    def __init__(self, mine: int = 3, preset: str = "fast", **settings):
        super().__init__(**settings)
        print("made")
        if mine == 4:
            self.training_step = interrupt
        if mine == 5:
            raise ValueError("five")
        if mine == 6:
            exec("raise ValueError('six')", {})
        if mine == 7:
            FrankWolfeRegressor(steps=0, input_size=1, output_size=1)

def interrupt(*_):
    raise KeyboardInterrupt
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--model.class_path", "own.Own", "--model.mine", "6"),
        ("--model", "own.Own", "--model.preset", "slow"),
        ("--model=FrankWolfeClassifier", "--data.class_path=SequentialDigits", "--data.by=pixel"),
        ("--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"),
        ("--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_metric"),
        ("--model.init_args.hidden_size", "4"),
        ("--config", "c.yaml", "--model.mine", "6"),
    ],
    ids=lambda arguments: " ".join(arguments)[:60],
)
def test_whatever_lightning_cli_takes_is_taken(arguments, run_here, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN_MODULE)
    (tmp_path / "c.yaml").write_text("model: {class_path: own.Own}\n")
    monkeypatch.syspath_prepend(tmp_path)
    status, told = run_here("fit", *arguments, "--print_config")
    assert status == 0, told


def test_an_interrupted_fit_tells_machines_so(run_here, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    status, told = run_here(
        *("fit", "--model", "own.Own", "--model.mine", "4", "--json"),
        *("--trainer.accelerator", "cpu", "--trainer.logger", "false"),
        *("--trainer.max_epochs", "1"),
    )
    assert status == 130, told
    # What the class prints goes to stderr.
    assert not json.loads(run_here.out)["complete"]


DIGITS = ("--model", "FrankWolfeClassifier", "--data", "SequentialDigits")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("fit", *DIGITS, "--model.steps", "0"), "`steps` must be at least 1, got 0. "),
        (("fit", *DIGITS, "--data.batch_size=0"), "`batch_size` must be at least 1, got 0. "),
        (("fit", *DIGITS, "--trainer.gradient_clip_val=1"), "`gradient_clip_val` must be None "),
        (("fit", *DIGITS, "--trainer.accelerator=cpu", "--trainer.devices=0"), "`Trainer(devices="),
        (("fit", *DIGITS, "--trainer.accelerator=cup"), "You selected an invalid accelerator "),
        (("fit", *DIGITS, "--model.input_size=3"), "`--model.input_size` must be left out, got 3"),
        (("validate", *DIGITS, "--ckpt_path=nope.ckpt"), "Checkpoint file not found: nope.ckpt"),
    ],
    ids=lambda value: value[-1] if isinstance(value, tuple) else "",
)
# Lightning's words to whoever has no logger of a kind, and on the machine.
@pytest.mark.filterwarnings("ignore")
def test_a_mistake_is_told_in_a_line(arguments, told, run_here):
    status, said = run_here(*arguments)
    assert status == 2
    assert said.rstrip().rpartition("\n")[2].startswith(f"lightning-fw: {told}")


# Lightning's words of workers, and of a directory of logs that is not empty.
@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_another_network_is_told_in_a_line(run_here, tmp_path):
    small = ("--trainer.accelerator=cpu", "--model.hidden_size=4", "--trainer.max_steps=2")
    data = ("--data.train_size=40", "--data.val_size=10", "--data.test_size=10")
    status, told = run_here("fit", *small, *data)
    assert status == 0, told
    (checkpoint,) = tmp_path.glob("lightning_logs/version_0/checkpoints/*.ckpt")
    status, told = run_here("test", "--trainer.accelerator=cpu", *data, f"--ckpt_path={checkpoint}")
    line = "lightning-fw: `--ckpt_path` must be a checkpoint of the network that the other options"
    assert (status, told.rstrip().rpartition("\n")[2][: len(line)]) == (2, line)
    config = ("--config", str(checkpoint.parent.parent / "config.yaml"))
    status, told = run_here("test", *config, f"--ckpt_path={checkpoint}")
    assert status == 0, told


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_file_that_is_no_checkpoint_is_told_in_a_line(command, run_here, tmp_path):
    (tmp_path / "config.yaml").write_text("seed_everything: 1\n")
    status, told = run_here(command, "--trainer.accelerator=cpu", "--ckpt_path=config.yaml")
    line = "lightning-fw: `--ckpt_path` must be a whole checkpoint, got config.yaml, which is none."
    assert (status, told.rstrip().rpartition("\n")[2][: len(line)]) == (2, line)


@pytest.mark.filterwarnings("ignore")
def test_a_directory_that_cannot_be_made_is_told_in_a_line(run_here, tmp_path):
    (tmp_path / "file").write_text("")
    status, told = run_here("fit", *DIGITS, "--trainer.default_root_dir=file/below")
    assert status == 2
    assert told.rstrip().rpartition("\n")[2].startswith("lightning-fw: [Errno 20] Not a directory")


def test_an_error_of_ones_own_class_shows_the_way_there(run_here, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    for mine, message in (("5", "five"), ("6", "six"), ("7", "`steps` must be at least 1, got 0")):
        with pytest.raises(ValueError, match=message):
            run_here("fit", "--model", "own.Own", "--model.mine", mine)


def test_nobody_has_to_read_a_fit_to_its_end(tmp_path):
    settings = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.logger=false"]
    unchecked = "--trainer.enable_checkpointing=false"
    told = run_unread_forked(*("fit", *DIGITS, *settings, unchecked), buffered=True, cwd=tmp_path)
    assert told.startswith("exit code 141\n")
    assert "Interrupted" not in told
