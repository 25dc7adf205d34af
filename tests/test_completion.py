"""What a shell completes: asked of bash itself."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

import pytest

from lightning_fw.cli import main
from lightning_fw.command_line.completion import script

pytest.importorskip("shtab", reason="needs the extra `cli`")
pytest.importorskip("jsonargparse", reason="needs the extra `cli`")

ASK = """
source "$1"
shift
words=("$@")
COMP_WORDS=("${words[@]}") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_lightning_fw lightning-fw "${words[COMP_CWORD]}" "${words[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """What bash offers for the last of the words."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    path = tmp_path_factory.mktemp("completion") / "lightning-fw"
    path.write_text(script("bash"))

    def ask(*words):
        command = ["bash", "-c", ASK, "bash", str(path), "lightning-fw", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.split()

    return ask


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("r",), ["race", "report"]),
        (("race", "--ta"), ["--task"]),
        (("race", "--task", "dig"), ["digits", "digits-pixel"]),
        (("race", "--methods", "spectral", "mu"), ["muon", "muon-averaged"]),
        (("bench", "--balls", "nuc"), ["nuclear"]),
        (("tasks", "--js"), ["--json"]),
        (("completion", "z"), ["zsh"]),
        (("fit", "--trainer.max_ep"), ["--trainer.max_epochs"]),
        (("validate", "--ck"), ["--ckpt_path"]),
        (("fit", "--data", "Seq"), ["SequentialDigits", "SequentialMNIST"]),
        (("fit", "--model.cell", "fast"), ["fastrnn", "fastgrnn"]),
    ],
)
def test_bash_completes(words, offered, complete):
    assert complete(*words) == offered


def test_files_are_completed(complete, tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete("report", "di") == ["digits"]
    for option in ("--config", "--ckpt_path", "--json"):
        assert complete("test", option, "di") == ["digits"]
    assert " -o default " in script("bash").splitlines()[-1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish"])
def test_there_is_a_script_for(shell, capsys):
    assert main(["completion", shell]) == 0
    told = capsys.readouterr()
    assert all(name in told.out for name in ("lightning-fw", "race", "digits-pixel", "max_epochs"))
    assert not told.err


def test_an_unknown_shell_is_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "bosh"])
    assert "must be one of bash, zsh, tcsh, fish; got bosh" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["shtab", "jsonargparse"])
def test_a_missing_package_is_named(package, capsys, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "lightning_fw.command_line.extra.find_spec",
        lambda name: None if name == package else found(name),
    )
    assert main(["completion", "bash"]) == 2
    told = capsys.readouterr().err
    assert package in told
    assert "pip install 'lightning-fw[cli]'" in told
