"""Every example runs, and holds what it claims."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from .forked import run_forked

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
# They start processes with the command that they were started with.
WITH_PROCESSES = {"two_processes", "resume_after_a_kill", "cli_with_a_file"}


def names(path):
    return path.stem


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.stem not in WITH_PROCESSES], ids=names)
def test_an_example_runs(path, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")

    def program():
        sys.argv = [str(path)]
        runpy.run_path(str(path), run_name="__main__")

    assert run_forked(program, tmp_path) == ""


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.stem in WITH_PROCESSES], ids=names)
def test_an_example_with_processes_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=names)
def test_an_example_is_short_and_ends_in_a_check(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 100
    assert "\nassert " in text or "\n    assert " in text
