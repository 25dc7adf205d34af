"""The errors that pages quote are those that the package raises; "…" stands for the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_error_messages import ALL

PAGES = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
QUOTE = re.compile(r"`` (`\w+`[^\n]*?) ``")
QUOTES = [(page.stem, quote) for page in PAGES for quote in QUOTE.findall(page.read_text())]


def test_pages_quote_errors():
    assert len(QUOTES) > 10


@pytest.mark.parametrize(("page", "quote"), QUOTES, ids=lambda each: each[:40])
def test_an_error_that_a_page_quotes_is_raised(page, quote):
    told = quote.removesuffix("…").rstrip()
    messages = [one.message for one in ALL]
    if told != quote:
        messages = [message[:end] for message in messages for end in range(len(message))]
    assert any(re.fullmatch(as_pattern(message), told) for message in messages)


def as_pattern(message: str) -> str:
    """What a message can be with whatever is filled in."""
    return ".+".join(map(re.escape, message.split("{}")))
