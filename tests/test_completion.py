"""What a shell completes: asked of the shells themselves."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

import pytest

from lightning_fw.cli import main
from lightning_fw.command_line.completion import script

pytest.importorskip("shtab", reason="needs the extra `cli`")
pytest.importorskip("jsonargparse", reason="needs the extra `cli`")

BASH = """
source "$1"
shift
words=("$@")
COMP_WORDS=("${words[@]}") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_lightning_fw lightning-fw "${words[COMP_CWORD]}" "${words[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""

FISH = """
source $argv[1]
complete -C "$argv[2..]" | string replace -r '\\t.*|/$' ''; true
"""

# zsh completes nowhere but in its line editor: a terminal of its own, and a `compadd` that tells.
ZSH = """
zmodload zsh/zpty
folder=$1; shift
zpty terminal zsh -f -i
for line (
  "PROMPT=; fpath=($folder \\$fpath); autoload -Uz compinit; compinit -u -D"
  'bindkey "^I" complete-word'
  'told() { print -r -- "<told>" }; compprefuncs=(told); comppostfuncs=(told exit)'
  'compadd() {
     [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]] && { builtin compadd "$@"; return }
     local -a matches; builtin compadd -A matches "$@"
     (( $#matches )) && print -lr -- $matches; builtin compadd "$@"
   }'
  "$*"$'\\t'
) zpty -w terminal "$line"
while zpty -r terminal line; do print -r -- "$line"; done
"""


def ask(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.fixture(scope="module", params=["bash", "fish", "zsh"])
def complete(request, tmp_path_factory):
    """What a shell offers for the last of the words."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    path = tmp_path_factory.mktemp("completion") / "_lightning-fw"
    path.write_text(script(shell))

    def in_bash(*words):
        return ask("bash", "-c", BASH, "bash", str(path), *words).split()

    def in_fish(*words):
        return ask("fish", "--no-config", "-c", FISH, str(path), *words).split()

    def in_zsh(*words):
        told = ask("zsh", "-f", "-c", ZSH, "zsh", str(path.parent), *words)
        return told.replace("\r", "").split("<told>\n")[1].split()

    how = {"bash": in_bash, "fish": in_fish, "zsh": in_zsh}[shell]
    return lambda *words: how("lightning-fw", *words)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("r",), ["race", "report"]),
        (("race", "--ta"), ["--task"]),
        (("race", "--task", "dig"), ["digits", "digits-pixel"]),
        (("race", "--methods", "mu"), ["muon", "muon-averaged", "muon-cosine"]),
        (("bench", "--balls", "nuc"), ["nuclear"]),
        (("tasks", "--js"), ["--json"]),
        (("completion", "z"), ["zsh"]),
        (("fit", "--trainer.max_ep"), ["--trainer.max_epochs"]),
        (("validate", "--ck"), ["--ckpt_path"]),
        (("fit", "--data", "Seq"), ["SequentialDigits", "SequentialMNIST"]),
        (("fit", "--model.cell", "fast"), ["fastrnn", "fastgrnn"]),
    ],
)
def test_a_shell_completes(words, offered, complete):
    assert sorted(complete(*words)) == sorted(offered)


@pytest.mark.parametrize("complete", ["bash"], indirect=True)
def test_bash_completes_a_list_of_names(complete):
    assert complete("race", "--methods", "spectral", "mu") == [
        "muon",
        "muon-averaged",
        "muon-cosine",
    ]


def test_files_are_completed(complete, tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert complete("report", "di") == ["digits"]
    of_commands = {
        ("test",): ("--config", "--ckpt_path", "--json"),
        ("race",): ("--json", "--out", "--data"),
        ("report", "run"): ("--out",),
        ("bench",): ("--growth",),
    }
    for command, options in of_commands.items():
        for option in options:
            assert complete(*command, option, "di") == ["digits"]
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
