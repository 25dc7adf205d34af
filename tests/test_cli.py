"""The command ``lightning-fw``."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import lightning_fw.bench.command as bench
import lightning_fw.communication.command as communication
import lightning_fw.race.command as race
from lightning_fw.cli import main
from lightning_fw.command_line import catalogue
from lightning_fw.command_line.arguments import file_to_write, picture_to_write
from lightning_fw.race import report, standings
from tests.unread import run_unread, run_unread_forked


def test_help_names_the_subcommands(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in ("race", "bench", "fit", "validate", "test"))


@pytest.mark.parametrize(
    "command",
    [
        *("race", "standings", "bench", "bench --comm", "report", "tasks", "completion"),
        *("fit", "validate", "test"),
    ],
)
def test_help_has_an_example_to_copy(command, capsys, monkeypatch):
    pytest.importorskip("jsonargparse", reason="needs the extra `cli`")
    monkeypatch.setenv("COLUMNS", "80")
    # LightningCLI warns of arguments of the process beside those that it is given.
    monkeypatch.setattr(sys, "argv", ["lightning-fw"])
    with pytest.raises(SystemExit, match="0"):
        main([*command.split(), "--help"])
    example = f"example: lightning-fw {command} "
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(example)]
    assert len(lines) == 1
    # Whole: a line that is cut off would end within its last word, or go on.
    assert not lines[0].endswith(("-", "/"))


@pytest.mark.parametrize("command", [race, standings, bench, communication, report])
def test_help_tells_the_defaults_that_there_are(command):
    told = {}
    for action in command.parser()._actions:
        found = re.search(r"\(default: ([^),]+)", action.help or "")
        of_the_task = ("batch_size", "hidden_size", "num_layers", "dropout", "out")
        if found and not (action.default is None and action.dest in of_the_task):
            default = action.default if isinstance(action.default, list) else [action.default]
            told[action.dest] = found[1], " ".join(map(str, default))
    told.pop("balls", None)  # "all"
    assert told.pop("tune", ("none", "0")) == ("none", "0")
    assert told and all(words == default for words, default in told.values())


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["race", "--metods", "spectral"], "--methods"),
        (["bench", "--ruonds=3"], "--rounds"),
        (["bench", "--comm", "--devics", "2"], "--devices"),
        (["report", "run", "--oot", "page.html"], "--out"),
        (["tasks", "--jsn"], "--json"),
    ],
)
def test_an_unknown_option_is_told_the_nearest(arguments, nearest, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.endswith(f", perhaps {nearest!r}\n")


def test_whoever_reads_may_stop(tmp_path):
    # What needs no torch, which takes seconds to import: all commands end in the same lines.
    assert run_unread("--help", cwd=tmp_path) == (141, "")
    told = run_unread_forked("tasks", buffered=True, cwd=tmp_path)
    assert told.rstrip() == "exit code 141"


def test_whoever_reads_tables_of_rich_may_stop(tmp_path):
    # Its own answer is the status 1.
    arguments = ("bench", "--hidden", "4", "--rounds", "1", "--balls", "l2")
    told = run_unread_forked(*arguments, buffered=False, cwd=tmp_path)
    assert told.rstrip() == "exit code 141"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("argument", ["--help", "tasks"])
def test_a_full_disk_is_told_in_a_line(argument, tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lightning_fw.cli", argument],
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    told = "lightning-fw: cannot write: No space left on device. Make room.\n"
    assert (done.returncode, done.stderr) == (1, told)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_a_result_for_machines_fails():
    assert main(["tasks", "--json", "/dev/full"]) == 1


def test_a_file_that_cannot_be_written_is_named_before_anything_runs(capsys, monkeypatch):
    # Root may write everywhere.
    monkeypatch.setattr("lightning_fw.command_line.arguments.os.access", lambda *_: False)
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "--json", "found.json"])
    assert "--json: must be a file that can be written, got found.json" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["raze"]])
def test_a_wrong_command_is_named(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "command" in capsys.readouterr().err


def test_fit_without_jsonargparse_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jsonargparse", None)
    assert main(["fit"]) == 2
    assert "pip install 'lightning-fw[cli]'" in capsys.readouterr().err


def test_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("lightning-fw ")


def test_a_checkout_that_is_not_installed_has_no_version(capsys, monkeypatch):
    monkeypatch.setattr("lightning_fw.cli.version", _no_version)
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == "lightning-fw (not installed)\n"


def _no_version(name):
    raise PackageNotFoundError(name)


def test_a_terminal_without_unicode_gets_what_it_can_show(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert main(["tasks"]) == 0
    told = terminal.buffer.getvalue()
    assert b"digits-pixel" in told
    assert b"?" in told


@pytest.mark.parametrize(
    ("option", "number"),
    [("--first-seed", "4294967296"), ("--dropout", "0"), ("--dropout", "inf"), ("--dropout", "a")],
)
def test_a_number_out_of_range_is_told(option, number, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["race", option, number])
    assert f"got {number}" in capsys.readouterr().err


def test_a_path_that_the_system_refuses_is_told(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["tasks", "--json", 300 * "a"])
    assert "--json: must be a file that can be written, got aaa" in capsys.readouterr().err


def test_a_file_is_asked_itself_and_a_new_one_its_directory(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "lightning_fw.command_line.arguments.os.access", lambda *a: asked.append(a) or True
    )
    (tmp_path / "old").write_text("")
    for name in ("old", "new"):
        file_to_write(str(tmp_path / name))
    assert asked == [(tmp_path / "old", os.W_OK), (tmp_path, os.W_OK)]


def test_a_picture_may_end_in_capitals(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    assert picture_to_write(str(tmp_path / "growth.PNG")) == tmp_path / "growth.PNG"


def raising(error):
    """A command that does nothing else."""

    def fail(argv):
        raise error

    return fail


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_told(number, monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "main", raising(OSError(number, os.strerror(number))))
    assert main(["tasks"]) == 1
    told = f"lightning-fw: cannot write: {os.strerror(number)}. Make room.\n"
    assert capsys.readouterr().err == told


def test_another_error_of_the_system_shows_the_way_there(monkeypatch):
    monkeypatch.setattr(catalogue, "main", raising(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        main(["tasks"])


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_or_a_termination_is_told(sent, monkeypatch, capsys):
    def command(argv):
        os.kill(os.getpid(), sent)
        time.sleep(60)

    before = (
        signal.signal(signal.SIGINT, signal.default_int_handler),
        signal.getsignal(signal.SIGTERM),
    )
    monkeypatch.setattr(catalogue, "main", command)
    try:
        assert main(["tasks"]) == 130
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert signal.getsignal(signal.SIGTERM) == before[1]
    assert capsys.readouterr().err == "Interrupted.\n"


def test_a_command_runs_in_any_thread(capsys):
    with ThreadPoolExecutor() as pool:
        assert pool.submit(main, ["tasks"]).result() == 0
