"""The blocks of the page about other libraries, which need those libraries."""

from __future__ import annotations

from pathlib import Path

from ..docs.run_page import blocks

_PAGE = Path(__file__).parents[2] / "docs" / "other-libraries.md"


def run_block(named: str) -> dict[str, object]:
    """What the one block that names this leaves behind."""
    (code,) = [block.code for block in blocks(_PAGE.read_text()) if named in block.code]
    left: dict[str, object] = {}
    exec(compile(code, str(_PAGE), "exec"), left)
    return left
