"""Every Python block of every page runs, and prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..forked import run_forked
from .run_page import blocks, run

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if list(blocks(path.read_text()))
]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_a_page_does_what_it_says(path, tmp_path):
    def program():
        wrong = run(path)
        assert not wrong, "\n".join(wrong)

    assert run_forked(program, tmp_path) == ""


def page_with(tmp_path, text):
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_blocks_go_on_from_each_other(tmp_path):
    first, second = "```python\na = 1\n```\n", "```python\nprint(a)\n```\n"
    page = page_with(tmp_path, first + second + "```text\n1\n```\n")
    assert run(page) == []


def test_another_output_is_told_with_its_line(tmp_path):
    page = page_with(tmp_path, "# Title\n\n```python\nprint(1)\n```\n\n```text\n2\n```\n")
    (wrong,) = run(page)
    assert wrong.startswith(f"{page}:4 printed\n1")


def test_an_error_is_told_with_its_line(tmp_path):
    page = page_with(tmp_path, "```python\n\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as raised:
        run(page)
    last = raised.traceback[-1]
    assert (Path(last.path), last.lineno + 1) == (page, 3)


def test_a_block_that_is_not_run_must_be_python_still(tmp_path):
    comment = "<!-- not run: needs four GPUs -->\n"
    assert run(page_with(tmp_path, comment + "```python\n1 / 0\n```\n")) == []
    with pytest.raises(SyntaxError):
        run(page_with(tmp_path, comment + "```python\n1 /\n```\n"))
