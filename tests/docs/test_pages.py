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


def test_the_first_block_of_the_readme_trains_a_network_of_ones_own(tmp_path):
    text = (ROOT / "README.md").read_text()
    code = next(blocks(text)).code
    own = {
        "def training_step(self, batch, batch_idx): ...": (
            "def training_step(self, batch, batch_idx): return self.net(batch).square().mean()"
        ),
        "    # no configure_optimizers": (
            "    def __init__(self): super().__init__(); self.net = torch.nn.Linear(2, 1)\n"
            "    # no configure_optimizers"
        ),
        "fit(Tagger(), ...)": "fit(Tagger(), torch.utils.data.DataLoader(torch.ones(20, 2)))",
        "L.Trainer(": "L.Trainer(max_epochs=1, accelerator='cpu', logger=False, ",
    }
    for told, mine in own.items():
        assert code.count(told) == 1, told
        code = code.replace(told, mine)

    def program():
        exec(code, {"__name__": "__main__"})

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
