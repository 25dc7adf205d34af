"""Runs the Python blocks of a page in order, as one program.

What a block prints must be the ``text`` block that follows it, where there is one. A block after
the comment ``<!-- not run: REASON -->`` is compiled alone.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^( *)```(\w+)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: [^>]+ -->\s*\Z")


class Block(NamedTuple):
    """Some code of a page, its first line, and what it should print."""

    code: str
    line: int
    printed: str | None
    runs: bool


def blocks(page: str) -> Iterator[Block]:
    """The Python blocks of a page."""
    fences = list(_FENCE.finditer(page))
    for fence, following in zip_longest(fences, fences[1:]):
        if fence[2] != "python":
            continue
        tells = following is not None and following[2] == "text"
        yield Block(
            code=fence[3],
            line=page.count("\n", 0, fence.start(3)) + 1,
            printed=following[3] if tells and following is not None else None,
            runs=_NOT_RUN.search(page[: fence.start()]) is None,
        )


def run(path: Path) -> list[str]:
    """What blocks print that the page does not say; their errors are raised as they are."""
    wrong: list[str] = []
    # Pickling and __main__ want a name; Lightning's hints, none.
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(path.read_text()):
        code = compile("\n" * (block.line - 1) + block.code, str(path), "exec")
        if not block.runs:
            continue
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            exec(code, namespace)
        if block.printed is not None and told.getvalue().strip() != block.printed.strip():
            wrong.append(f"{path}:{block.line} printed\n{told.getvalue()}")
    return wrong
