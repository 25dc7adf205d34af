"""Every command that a page tells is one: its options exist, and what is whole is read as told."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("jsonargparse", reason="needs the extra `cli`")

from lightning_fw.command_line.completion import commands
from lightning_fw.command_line.lightning_cli import _require_known_names
from lightning_fw.communication import command as communication

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CONSOLE = re.compile(r"^( *)```console\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(lightning-fw\s[^`]+)`")
OF_OTHERS = {".ci/run", "mkdir", "torchrun", "python"}


def console_lines(text):
    for block in CONSOLE.finditer(text):
        for line in block[2].replace("\\\n", " ").splitlines():
            words = shlex.split(line.partition(" > ")[0], comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield words


LINES = [(page.stem, words) for page in PAGES for words in console_lines(page.read_text())]
SPANS = sorted({span for page in PAGES for span in INLINE.findall(page.read_text())})


@pytest.fixture(scope="module")
def parsers():
    return {**dict(commands()), "bench --comm": communication.parser()}


@pytest.mark.parametrize(("page", "words"), LINES, ids=lambda each: str(each)[:60])
def test_a_command_of_a_console_block_can_be_run(page, words, parsers, monkeypatch, tmp_path):
    (tmp_path / "runs").mkdir()
    for name in ("docs", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    program, *rest = words
    if program == "lightning-fw":
        name, *arguments = rest
        if "--help" not in arguments:
            parsers["bench --comm" if "--comm" in arguments else name].parse_args(
                # A page for GPUs is read on machines without.
                [word.replace("cuda", "cpu") for word in arguments if word != "--comm"]
            )
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert rest[0] in targets
    elif program == "pip":
        asked = re.findall(r"\[([\w,-]+)\]", " ".join(rest))
        known = metadata("lightning-fw").get_all("Provides-Extra")
        assert {extra for group in asked for extra in group.split(",")} <= set(known)
    elif words[:2] == ["python", "-m"]:
        assert find_spec(words[2])
    else:
        assert program in OF_OTHERS


@pytest.mark.parametrize("span", SPANS)
def test_options_told_in_a_line_exist(span, parsers):
    name, *rest = span.split()[1:]
    known = {*parsers[name]._option_string_actions}
    if "--comm" in rest:
        known |= {*parsers["bench --comm"]._option_string_actions}
    if name in ("fit", "validate", "test"):
        _require_known_names([name, *rest])
        rest = [word for word in rest if not word.startswith(("--model.", "--data."))]
    options = {word.strip("[]").partition("=")[0] for word in rest}
    assert {option for option in options if option.startswith("--")} <= known
