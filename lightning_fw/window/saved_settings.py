"""Settings in words, for a saved state to be compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lightning_fw.inner_loop import InnerLoop


def settings_in_words(inner_loop: InnerLoop) -> dict[str, str]:
    """Each setting as Python shows it, which another process shows alike."""
    # Without the addresses of functions and plain objects.
    return {
        field.name: re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(getattr(inner_loop, field.name)))
        for field in fields(InnerLoop)
    }


def changes(saved: Mapping[str, str], mine: Mapping[str, str]) -> list[str]:
    """What differs, a phrase each."""
    phrases = []
    for name in {**saved, **mine}:
        before, now = saved.get(name, "not there"), mine.get(name, "not there")
        if _plain(before) != _plain(now):
            phrases.append(f"{name} was {before}, is {now}")
    return phrases


def _plain(words: str) -> str:
    """The words with numbers as equal ones are: 1.0 as 1, numpy's as Python's."""
    return re.sub(r"(?<=\d)\.0\b", "", re.sub(r"np\.\w+\(([^()]*)\)", r"\1", words))


def require_same(state: Mapping[str, Any], inner_loop: InnerLoop) -> None:
    """Raise if a state is no window's, or of one with other settings.

    Raises:
        ValueError: Naming them.
    """
    if "inner_loop" not in state:
        raise ValueError(
            f"`state` must be a window's, got the keys {', '.join(map(str, state))}. "
            "Pass what Window.state_dict() of this version gave."
        )
    found = changes(state["inner_loop"], settings_in_words(inner_loop))
    if found:
        raise ValueError(
            f"`state` must be of the same settings, got others: {'; '.join(found)}. "
            "Load it into a Window with the InnerLoop that it was saved from."
        )
