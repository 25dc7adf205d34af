"""Every example runs, and holds what it claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from .forked import run_script_forked

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


def names(path):
    return path.stem


@pytest.mark.parametrize("path", EXAMPLES, ids=names)
def test_an_example_runs(path, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    assert run_script_forked(path, tmp_path) == ""


@pytest.mark.parametrize("path", EXAMPLES, ids=names)
def test_an_example_is_short_and_ends_in_a_check(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 100
    assert "\nassert " in text or "\n    assert " in text
